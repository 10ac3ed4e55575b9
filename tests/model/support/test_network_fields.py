"""Every field that version 2 of the network file added, with every value that it should not have: refused by name, or meant."""

import io
import json
import random
import re
import time
import tracemalloc

import numpy as np
import pytest

from model.network import MOST_UNITS, Convolution, Linear, MaxPool, Network, Padding
from tests.model.support.test_network_file import packed, parts, refused
from tests.mutations import NASTY, loaded, mutated_tree

CHANCE = np.random.default_rng(3)


def convolution(name, inputs, outputs, kernel, **fields):
    weights = CHANCE.integers(-9, 10, (outputs, inputs, *kernel))
    return Convolution(name=name, weights=weights, threshold_log2=4, **{"bias": CHANCE.integers(-9, 10, outputs), **fields})


FIRST = convolution(
    "conv1", 2, 6, (3, 3), source="input", bias=CHANCE.integers(-9, 10, (8, 9, 6)), groups=2, padding=Padding(1, 1, 1, 1),
    count_max=6, burst=4,
)  # fmt: skip
NETWORK = Network(
    name="all",
    input_shape=(8, 9, 4),
    layers=(
        FIRST,
        MaxPool(name="pool1", source="conv1", window=(2, 3), stride=(2, 3), padding=Padding(0, 0, 1, 0)),
        convolution("conv2", 6, 4, (2, 1), source="pool1", averaged=(2, 1), padding=Padding(1, 0, 0, 0), burst=0),
        Linear(
            name="fc", source="conv2", weights=CHANCE.integers(-9, 10, (5, 24)), bias=CHANCE.integers(-9, 10, 5),
            threshold_log2=3, activation="identity",
        ),
    ),
    input_threshold=20,
    input_levels=5,
    input_step=40,
    firing="deferred",
    rest=True,
    flush_events=7,
)  # fmt: skip
OF_NETWORK = {"input_levels": 1, "input_step": 1, "firing": "immediate", "rest": False, "flush_events": 0}
OF_LAYERS = {"burst": 1, "averaged": [1, 1], "count_max": None, "groups": 1}
VALUES = (
    *NASTY, "deferred", "immediate", "DEFERRED", 10**400, -(10**400), 1 << 23, (1 << 23) + 1, 65535, 65536, MOST_UNITS,
    MOST_UNITS + 1, 254, [8388608, 8388608], [2, 1], [1, 2, 3], [-1, 1], [1 << 70, 1], [1, 1, "x"], [[1, 1]], {"a": [1]},
    [0] * 9999,
)  # fmt: skip


def meaning(content):
    """What a file says, with what may be left out written out."""
    header, arrays = parts(content)
    header = OF_NETWORK | header
    for at, layer in enumerate(header["layers"]):
        usual = {name: value for name, value in OF_LAYERS.items() if name != "groups" or layer["kind"] == "convolution"}
        header["layers"][at] = layer if layer["kind"] == "maxpool" else usual | layer
    return json.dumps(header, sort_keys=True), {name: array.tolist() for name, array in arrays.items()}


def read(path, header, arrays):
    """The network, which written back says the same; None where it is refused, within a second."""
    content = packed(header, arrays)
    path.write_bytes(content)
    start = time.process_time()
    network = loaded(Network.load, path)
    assert time.process_time() - start < 1
    if network is not None:
        assert meaning(network.to_bytes()) == meaning(content)
    return network


def test_all_fields_are_there(tmp_path):
    header, arrays = parts(NETWORK.to_bytes())
    assert set(OF_NETWORK) < set(header) and {name for layer in header["layers"] for name in layer} > set(OF_LAYERS)
    assert read(tmp_path / "net.npz", header, arrays) == NETWORK


@pytest.mark.parametrize("field", [*OF_NETWORK, "input_threshold"])
def test_fields_of_the_network(tmp_path, field):
    """A wrong value is refused by a line that names the field, or another one that does not suit it."""
    header, arrays = parts(NETWORK.to_bytes())
    path, accepted = tmp_path / "net.npz", 0
    for value in VALUES:
        if read(path, header | {field: value}, arrays) is None:
            message = refused(path, path.read_bytes())
            others = {"firing": "flush_events must", "input_threshold": "input_levels must"}.get(field, "input_step must")
            assert message.startswith((f"{field} must", others, "input_step must", "header must be JSON: ")), message
        else:
            accepted += 1
    assert accepted >= 1
    left_out = {name: value for name, value in header.items() if name != field}
    found = read(path, left_out, arrays)
    assert (found is None) == (field in ("input_threshold", "firing", "input_levels"))


@pytest.mark.parametrize("layer", range(4))
@pytest.mark.parametrize("field", OF_LAYERS)
def test_fields_of_layers(tmp_path, layer, field):
    header, arrays = parts(NETWORK.to_bytes())
    path, name = tmp_path / "net.npz", header["layers"][layer]["name"]
    for value in VALUES:
        changed = json.loads(json.dumps(header))
        changed["layers"][layer][field] = value
        if read(path, changed, arrays) is None:
            message = refused(path, path.read_bytes())
            # What takes another number of channels or inputs is told by the layer that does not fit.
            what = f"{field}|fields|weights|bias|averaged window|window"
            fits = rf"layer '{name}': ({what}) .*|layer 'fc': weights take .*'conv2'.*|header must be JSON: .*"
            assert re.fullmatch(fits, message), message


def test_events_are_a_number_that_a_float_holds(tmp_path):
    header, arrays = parts(NETWORK.to_bytes())
    for value in (10**400, -(10**400)):
        header["layers"][0]["mean_events"] = value
        message = refused(tmp_path / "net.npz", packed(header, arrays))
        assert message.startswith("layer 'conv1': mean_events must be a finite number of at least 0, not ")


def test_a_field_that_is_there_twice(tmp_path):
    header, arrays = parts(NETWORK.to_bytes())
    for field in (*OF_NETWORK, *OF_LAYERS):
        text = re.sub(rf'("{field}": [^,\[\]]+|"{field}": \[[^]]*\])', r'\1, \1', json.dumps(header), count=1)
        assert text.count(f'"{field}"') > json.dumps(header).count(f'"{field}"')
        assert refused(tmp_path / "net.npz", packed(text.encode(), arrays)) == (
            f"header must be JSON: field {field!r} must not be there twice"
        )


BIASES = {
    "flat": (lambda bias: bias.reshape(-1), (432,)),
    "of no position": (lambda bias: bias[:0], None),
    "of one row": (lambda bias: bias[:1], (1, 9, 6)),
    "turned": (lambda bias: bias.transpose(1, 0, 2), (9, 8, 6)),
    "channels first": (lambda bias: bias.transpose(2, 0, 1), (6, 8, 9)),
    "of two axes": (lambda bias: bias[0], (9, 6)),
    "of four axes": (lambda bias: bias[None], (1, 8, 9, 6)),
    "one number": (lambda bias: bias[0, 0, 0], (1,)),
}


@pytest.mark.parametrize("what", BIASES)
def test_biases_by_position(tmp_path, what):
    header, arrays = parts(NETWORK.to_bytes())
    change, shape = BIASES[what]
    message = refused(tmp_path / "net.npz", packed(header, arrays | {"conv1.bias": np.ascontiguousarray(change(FIRST.bias))}))
    whole = "" if shape is None or len(shape) != 3 or shape[2] != 6 else " or that of the output (8, 9, 6)"
    assert message == (
        "layer 'conv1': bias must not be empty"
        if shape is None
        else f"layer 'conv1': bias must have shape (6,){whole}, not {shape}"
    )


def test_one_bias_a_channel_is_another_network(tmp_path):
    header, arrays = parts(NETWORK.to_bytes())
    found = read(tmp_path / "net.npz", header, arrays | {"conv1.bias": FIRST.bias[0, 0]})
    assert found is not None and found != NETWORK and found.layers[0].bias.shape == (6,)


@pytest.mark.parametrize("seed", range(6))
def test_mutated_files_of_version_2(tmp_path, seed):
    """One to three changes anywhere, two times in three one of a field that version 2 added."""
    chance, path = random.Random(seed), tmp_path / "net.npz"
    header, arrays = parts(NETWORK.to_bytes())
    accepted = 0
    tracemalloc.start()
    try:
        for _ in range(250):
            changed = json.loads(json.dumps(header))
            if chance.random() < 0.5:
                changed = mutated_tree(changed, chance)
            if isinstance(changed, dict) and chance.random() < 0.67:
                changed[chance.choice(list(OF_NETWORK))] = chance.choice(VALUES)
            layers = changed.get("layers") if isinstance(changed, dict) else None
            layer = chance.choice(layers) if isinstance(layers, list) and layers else None
            if isinstance(layer, dict) and chance.random() < 0.67:
                layer[chance.choice(list(OF_LAYERS))] = chance.choice(VALUES)
            changed_arrays = dict(arrays)
            if chance.random() < 0.2:
                name = chance.choice(list(arrays))
                array = arrays[name]
                some = (array[:-1], array[None], array.T, array.astype(float), array * 0, array.astype(np.int64) << 40, array[:0])
                changed_arrays[name] = chance.choice(some)
            accepted += read(path, changed, changed_arrays) is not None
        assert 0 < accepted < 125
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()


def test_bytes_of_version_2(tmp_path):
    """A value of another type in the archive itself: an array in place of a field."""
    header, arrays = parts(NETWORK.to_bytes())
    for name in ("conv1.burst", "conv1.averaged", "pool1.weights", "rest"):
        extra = arrays | {name: np.ones(1, int)}
        assert refused(tmp_path / "net.npz", packed(header, extra)) == f"arrays must belong to a layer, not ['{name}']"
    file = io.BytesIO()
    np.savez(file, header=np.frombuffer(json.dumps(header).encode(), np.uint8).astype(np.int16), **arrays)
    assert refused(tmp_path / "net.npz", file.getvalue()) == "must be a Tally network file: its header is missing"
