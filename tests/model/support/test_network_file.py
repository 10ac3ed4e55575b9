"""Network files that lie, about anything: one line that names the file, or what the file says."""

import io
import json
import random
import re
import tracemalloc
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from model.network import MOST_LAYERS, MOST_UNITS, Linear, MaxPool, Network, Shape
from model.support.errors import NetworkError
from model.support.names import LAYER_NAME, SAFE_NAME
from sim.generators.networks import random_linear, random_network
from tests.mutations import loaded, mutated_bytes, mutated_tree

NETWORK = random_network(5)


def parts(content):
    """The header and the arrays of a network file."""
    with np.load(io.BytesIO(content)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(bytes(arrays.pop("header"))), arrays


def packed(header, arrays):
    """The file of a header and arrays."""
    file = io.BytesIO()
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    np.savez_compressed(file, header=np.frombuffer(text, np.uint8), **arrays)
    return file.getvalue()


def refused(path, content):
    """The line by which a file is refused, without the file's name."""
    path.write_bytes(content)
    with pytest.raises(NetworkError) as caught:
        Network.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 2000
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 5}, f"name must be {SAFE_NAME}, not 5"),
        ({"name": ""}, f"name must be {SAFE_NAME}, not ''"),
        ({"name": "../../x"}, f"name must be {SAFE_NAME}, not '../../x'"),
        ({"name": "/tmp/x"}, f"name must be {SAFE_NAME}, not '/tmp/x'"),
        ({"name": "<b>"}, f"name must be {SAFE_NAME}, not '<b>'"),
        ({"name": "a\0b"}, f"name must be {SAFE_NAME}, not 'a\\x00b'"),
        ({"name": "a\x1b[2J"}, f"name must be {SAFE_NAME}, not 'a\\x1b[2J'"),
        ({"name": "$(ls)"}, f"name must be {SAFE_NAME}, not '$(ls)'"),
        ({"name": "-x"}, f"name must be {SAFE_NAME}, not '-x'"),
        ({"name": "a" * 101}, f"name must be {SAFE_NAME}, not {'a' * 101!r}"),
        ({"origin": "a\nb"}, "origin must be a line of at most 1000 printable characters, not 'a\\nb'"),
        ({"origin": None}, "origin must be a line of at most 1000 printable characters, not None"),
        ({"version": True}, "version must be within 1..3, not True"),
        ({"version": 1.0}, "version must be within 1..3, not 1.0"),
        ({"layers": None}, "layers must be a list of 1 to 1000 objects, not None"),
        ({"layers": []}, "layers must be a list of 1 to 1000 objects, not []"),
        ({"layers": [3]}, "layers must be a list of 1 to 1000 objects, not [3]"),
        ({"input_shape": [8, 8]}, "input_shape must be three positive integers, not [8, 8]"),
        ({"input_shape": [8, 8, True]}, "input_shape must be three positive integers, not [8, 8, True]"),
        ({"input_threshold": "51"}, "input_threshold must be within 0..254, not '51'"),
        ({"input_threshold": False}, "input_threshold must be within 0..254, not False"),
        (
            {"input_shape": [60000, 60000, 1]},
            f"'input' of shape 60000x60000x1: height and width must be at most 65536, and all layers together at most "
            f"{MOST_UNITS} units",
        ),
    ],
)
def test_fields_of_the_header(tmp_path, change, message):
    header, arrays = parts(NETWORK.to_bytes())
    assert refused(tmp_path / "net.npz", packed(header | change, arrays)) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 5}, "layer 5: array 'bias' is missing"),
        ({"kind": ["linear"]}, "layer 'conv1': kind must be one of ['convolution', 'linear', 'maxpool'], not ['linear']"),
        ({"source": None}, "layer 'conv1': source must be a name, not None"),
        ({"mean_events": "many"}, "layer 'conv1': mean_events must be a finite number of at least 0, not 'many'"),
        ({"mean_events": True}, "layer 'conv1': mean_events must be a finite number of at least 0, not True"),
        ({"mean_events": float("nan")}, "layer 'conv1': mean_events must be a finite number of at least 0, not nan"),
        ({"mean_events": float("inf")}, "layer 'conv1': mean_events must be a finite number of at least 0, not inf"),
        ({"stride": 1}, "layer 'conv1': stride must be 2 integers, not 1"),
        ({"stride": [1, None]}, "layer 'conv1': stride must be an integer, not None"),
        ({"padding": [0, 0, 0]}, "layer 'conv1': padding must be 4 integers, not [0, 0, 0]"),
        ({"padding": "0000"}, "layer 'conv1': padding must be 4 integers, not '0000'"),
        ({"groups": None}, "layer 'conv1': groups must be an integer, not None"),
        ({"weight_bits": True}, "layer 'conv1': weight_bits must be an integer, not True"),
        ({"activation": None}, "layer 'conv1': activation must be 'relu' or 'identity', not None"),
        (
            {"weights": [[1]]},
            "layer 'conv1': fields must be ['activation', 'count_bits', 'groups', 'mean_events', 'name', 'padding', "
            "'potential_bits', 'source', 'stride', 'threshold_log2', 'weight_bits'], not ['activation', 'count_bits', "
            "'mean_events', 'name', 'padding', 'potential_bits', 'source', 'stride', 'threshold_log2', 'weight_bits', 'weights']",
        ),
    ],
)
def test_fields_of_a_layer(tmp_path, change, message):
    header, arrays = parts(NETWORK.to_bytes())
    header["layers"][0] |= change
    assert refused(tmp_path / "net.npz", packed(header, arrays)) == message


def test_header_that_is_not_one(tmp_path):
    header, arrays = parts(NETWORK.to_bytes())
    path = tmp_path / "net.npz"
    twice = json.dumps(header).encode()[:-1] + b', "name": "other"}'
    assert refused(path, packed(twice, arrays)) == "header must be JSON: field 'name' must not be there twice"
    nested = b"[" * 100_000 + b"]" * 100_000
    assert refused(path, packed(nested, arrays)) == "header must be JSON: must not be nested so deeply"
    assert refused(path, packed(b"\xff\xfe", arrays)).startswith("header must be JSON: 'utf-8' codec can't decode")
    assert refused(path, packed(b"[]", arrays)) == "must be a Tally network file"
    assert refused(path, packed(b" " * (1 << 22) + b"{}", arrays)) == "header must be at most 4194304 bytes, not 4194306"
    file = io.BytesIO()
    np.savez(file, **arrays)
    assert refused(path, file.getvalue()) == "must be a Tally network file: its header is missing"
    assert refused(path, packed(header, arrays | {"more": np.zeros(3)})) == "arrays must belong to a layer, not ['more']"


def test_layer_names():
    fc = random_linear(0, inputs=4, outputs=3)
    for name in ("é", "a.b", "1a", "", "a" * 101, "a\n", "input", None):
        with pytest.raises(NetworkError, match=f"^{re.escape(f'layer name must be {LAYER_NAME}, other than {chr(39)}input')}"):
            replace(fc, name=name)
    for name in ("module", "class", "None", "_", "Input", "a__payload", "a" * 100):
        assert replace(fc, name=name).name == name


def test_sizes(tmp_path):
    pool = MaxPool(name="p0", source="input", window=(1, 1), stride=(1, 1))
    layers = [replace(pool, name=f"p{n}", source=f"p{n - 1}" if n else "input") for n in range(MOST_LAYERS + 1)]
    assert len(Network(name="n", input_shape=Shape(1, 1, 1), layers=layers[:-1]).layers) == MOST_LAYERS
    with pytest.raises(NetworkError, match=r"^layers must be 1 to 1000, not 1001$"):
        Network(name="n", input_shape=Shape(1, 1, 1), layers=layers)
    with pytest.raises(NetworkError, match=r"^'p3' of shape 2048x2048x1: .* at most 16777216 units$"):
        Network(name="n", input_shape=Shape(2048, 2048, 1), layers=layers[:4])


def test_claims_allocate_nothing(tmp_path):
    """A member whose header claims terabytes, a header that is a terabyte, a directory of members that are not there."""
    network = Network(name="n", input_shape=Shape(1, 1, 4), layers=(random_linear(0, inputs=4, outputs=3),))
    _, arrays = parts(network.to_bytes())
    path = tmp_path / "net.npz"
    tracemalloc.start()
    try:
        for shape in ((1 << 40,), (1 << 20, 1 << 20), (1 << 47, 1 << 47, 1 << 47)):
            content = io.BytesIO()
            with zipfile.ZipFile(content, "w") as archive:
                member = io.BytesIO()
                np.lib.format.write_array_header_1_0(member, {"descr": "<i2", "fortran_order": False, "shape": shape})
                archive.writestr("fc.weights.npy", member.getvalue() + arrays["fc.weights"].tobytes())
            size = 2 * int(np.prod([float(n) for n in shape]))
            message = refused(path, content.getvalue())
            assert message == (
                f"must be a Tally network file: member 'fc.weights.npy' must hold the {size} bytes of its shape {shape}, not 24"
            )
        # A true claim of more than may be, which takes next to nothing of the file.
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("big.npy", "w") as stream:
            np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": ((1 << 27) + 1,)})
            for _ in range(128):
                stream.write(bytes(1 << 20))
            stream.write(b"\0")
        assert refused(path, content.getvalue()) == (
            "must be a Tally network file: member 'big.npy' must hold at most 134217728 bytes, not 134217729"
        )
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()


def test_members(tmp_path):
    """Twice the same member, members that are no arrays, and arrays that are no numbers."""
    path = tmp_path / "net.npz"
    start = "must be a Tally network file: "

    def with_member(name, content):
        file = io.BytesIO(NETWORK.to_bytes())
        with warnings.catch_warnings(), zipfile.ZipFile(file, "a") as archive:
            warnings.simplefilter("ignore")
            archive.writestr(name, content)
        return file.getvalue()

    member = io.BytesIO()
    np.lib.format.write_array(member, np.zeros((1, 3), np.int16))
    twice = with_member("conv1.weights.npy", member.getvalue())
    assert refused(path, twice) == f"{start}member 'conv1.weights.npy' must not be there twice"
    assert refused(path, with_member("notes.txt", "hello")) == (
        f"{start}members must be arrays, which end in .npy, not 'notes.txt'"
    )
    assert refused(path, with_member("x.npy", "hello")) == f"{start}member 'x.npy' must be an array"
    objects = io.BytesIO()
    np.save(objects, np.array([None]), allow_pickle=True)
    assert refused(path, with_member("x.npy", objects.getvalue())) == f"{start}member 'x.npy' must hold numbers, not '|O'"


def test_every_order_and_width_of_numbers_is_read(tmp_path):
    """What an array says is what counts, however it is stored."""
    header, arrays = parts(NETWORK.to_bytes())
    for dtype in ("<i2", ">i2", "<i4", ">i8"):
        stored = {name: np.asfortranarray(array.astype(dtype)) for name, array in arrays.items()}
        path = tmp_path / "net.npz"
        path.write_bytes(packed(header, stored))
        assert Network.load(path) == NETWORK


def meaning(content):
    """What a file says: its header, what is left out written out, and its arrays."""
    header, arrays = parts(content)
    for layer in header["layers"]:
        if layer["kind"] == "convolution":
            layer.setdefault("groups", 1)
    return json.dumps(header, sort_keys=True), {name: array.tolist() for name, array in arrays.items()}


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files(tmp_path, seed):
    """Refused in one line, or accepted and then exactly what the file says."""
    chance, path, content = random.Random(seed), tmp_path / "net.npz", NETWORK.to_bytes()
    header, arrays = parts(content)
    accepted = 0
    for _ in range(100):
        changed_arrays = dict(arrays)
        if chance.random() < 0.2:
            name = chance.choice(list(arrays))
            array = arrays[name]
            changes = (
                lambda a: a[:-1], lambda a: a[None], lambda a: a.T, lambda a: a.astype(float), lambda a: a * 0,
                lambda a: a.astype(np.int64) * 1000, lambda a: a.reshape(-1), lambda a: a[:0], lambda a: np.array(3),
            )  # fmt: skip
            changed_arrays[name] = chance.choice(changes)(array)
        mutated = packed(mutated_tree(header, chance), changed_arrays)
        path.write_bytes(mutated)
        network = loaded(Network.load, path)
        if network is not None:
            accepted += 1
            assert meaning(network.to_bytes()) == meaning(mutated)
    assert 0 < accepted < 60
    for _ in range(100):
        path.write_bytes(mutated_bytes(content, chance))
        assert loaded(Network.load, path) in (None, NETWORK)


def test_long_values_are_shortened(tmp_path):
    header, arrays = parts(NETWORK.to_bytes())
    message = refused(tmp_path / "net.npz", packed(header | {"name": "x" * 100_000}, arrays))
    assert len(message) < 1100 and message.endswith("xxx ...")


def test_a_linear_layer_keeps_its_arrays():
    with pytest.raises(ValueError, match="read-only"):
        random_linear(0, inputs=2, outputs=2).weights[0, 0] = 1
    assert isinstance(random_linear(0, inputs=2, outputs=2), Linear)


def test_versions(tmp_path):
    """What version 1 can say is version 1; a file says no more than its version has, and has no version that it needs not."""
    path, grey = tmp_path / "net.npz", replace(NETWORK, input_threshold=20, input_levels=5, input_step=40)
    grey.save(path)
    assert Network.load(path) == grey != NETWORK
    (old, arrays), (new, _) = parts(NETWORK.to_bytes()), parts(grey.to_bytes())
    assert (old["version"], new["version"]) == (1, 2)
    assert set(new) - set(old) == {"input_levels", "input_step"}
    known = ["format", "input_shape", "input_threshold", "layers", "name", "origin", "version"]
    assert refused(path, packed(new | {"version": 1}, arrays)) == (
        f"fields must be {known}, not {sorted([*known, 'input_levels', 'input_step'])}"
    )
    assert refused(path, packed(old | {"version": 2}, arrays)) == "version must be 1 for what it says, not 2"
    path.write_bytes(packed(new | {"input_step": 1}, arrays))
    assert Network.load(path) == replace(grey, input_step=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_levels": 0}, "input_levels must be within 1..255, not 0"),
        ({"input_levels": True}, "input_levels must be within 1..255, not True"),
        (
            {"input_levels": 6, "input_threshold": 250},
            "input_levels must be at most 5 above an input_threshold of 250, not 6",
        ),
        ({"input_step": 2}, "input_step must be within 1..1 with 1 levels above 51, not 2"),
        ({"input_levels": 5, "input_step": 51}, "input_step must be within 1..50 with 5 levels above 51, not 51"),
        ({"input_levels": 5, "input_step": 0}, "input_step must be within 1..50 with 5 levels above 51, not 0"),
    ],
)
def test_levels_of_the_input(change, message):
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        replace(NETWORK, **{"input_threshold": 51, **change})


FIRING = replace(
    NETWORK,
    firing="deferred",
    rest=True,
    flush_events=7,
    layers=(replace(NETWORK.layers[0], burst=4), *NETWORK.layers[1:]),
)


def test_firing_rest_and_burst(tmp_path):
    """Fields of version 2 each by themselves and all together; in version 1 they are unknown."""
    path = tmp_path / "net.npz"
    some = [replace(FIRING, firing="immediate", flush_events=0), replace(FIRING, rest=False), replace(NETWORK, rest=True)]
    for network in (FIRING, *some):
        network.save(path)
        assert Network.load(path) == network != NETWORK
        assert parts(network.to_bytes())[0]["version"] == 2
    header, arrays = parts(FIRING.to_bytes())
    assert set(header) - set(parts(NETWORK.to_bytes())[0]) == {"firing", "rest", "flush_events"}
    only_burst = parts(replace(FIRING, firing="immediate", rest=False, flush_events=0).to_bytes())[0]
    assert "burst" in only_burst["layers"][0] and "burst" not in only_burst["layers"][4]
    assert refused(path, packed(only_burst | {"version": 1}, arrays)).startswith("layer 'conv1': fields must be [")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"firing": "late"}, "firing must be 'immediate' or 'deferred', not 'late'"),
        ({"firing": None}, "firing must be 'immediate' or 'deferred', not None"),
        ({"rest": 1}, "rest must be true or false, not 1"),
        ({"flush_events": -1}, f"flush_events must be within 0..{MOST_UNITS} in a network that fires deferred, not -1"),
        ({"flush_events": True}, f"flush_events must be within 0..{MOST_UNITS} in a network that fires deferred, not True"),
        ({"firing": "immediate"}, "flush_events must be 0 in a network that fires immediate, not 7"),
    ],
)
def test_fields_of_firing(tmp_path, change, message):
    header, arrays = parts(FIRING.to_bytes())
    assert refused(tmp_path / "net.npz", packed(header | change, arrays)) == message


@pytest.mark.parametrize("burst", [-1, 1 << 16])
def test_burst_is_a_count(burst):
    with pytest.raises(NetworkError, match=rf"^layer 'conv1': burst must be within 0\.\.65535, not {burst}$"):
        replace(NETWORK.layers[0], burst=burst)


def test_bias_by_position_and_averaged_windows(tmp_path):
    path, conv = tmp_path / "net.npz", NETWORK.layers[0]
    by_position = np.arange(NETWORK.shapes[0].size).reshape(NETWORK.shapes[0]) % 100
    changed = replace(NETWORK, layers=(replace(conv, bias=by_position), *NETWORK.layers[1:]))
    assert changed.version == 2
    changed.save(path)
    assert Network.load(path) == changed != NETWORK
    header, arrays = parts(changed.to_bytes())
    assert header["version"] == 2 and "averaged" not in header["layers"][0]
    assert refused(path, packed(header | {"version": 1}, arrays)) == "version must be 2 for what it says, not 1"
    averaged = Network(name="n", input_shape=(5, 5, 1), layers=(random_linear(0, inputs=4, outputs=3, averaged=(2, 2)),))
    averaged.save(path)
    assert Network.load(path) == averaged
    assert parts(averaged.to_bytes())[0]["layers"][0]["averaged"] == [2, 2]
    wanted = f"or that of the output {tuple(NETWORK.shapes[0])}, not (1, 1, {conv.channels})"
    with pytest.raises(NetworkError, match=re.escape(wanted)):
        replace(NETWORK, layers=(replace(conv, bias=np.zeros((1, 1, conv.channels), int)), *NETWORK.layers[1:]))
    for layer, change, message in (
        (conv, {"bias": np.zeros((2, 2, 99), int)}, f"layer 'conv1': bias must have shape ({conv.channels},), not (2, 2, 99)"),
        (averaged.layers[0], {"bias": np.zeros((1, 1, 3), int)}, "layer 'fc': bias must have shape (3,), not (1, 1, 3)"),
        (conv, {"averaged": (0, 1)}, "layer 'conv1': averaged must be within 1..8388608, not 0"),
    ):
        with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
            replace(layer, **change)
    with pytest.raises(NetworkError, match=r"^layer 'fc': weights take 4 inputs, but .* 6x5x1, averaged 3x2x1, which is 6$"):
        replace(averaged, input_shape=(6, 5, 1))
    with pytest.raises(NetworkError, match=r"^layer 'fc': averaged window 2x2 is larger than its source 1x8x1$"):
        replace(averaged, input_shape=(1, 8, 1))


def test_activations_that_end(tmp_path):
    conv, last = NETWORK.layers[0], NETWORK.output
    ending = replace(NETWORK, layers=(replace(conv, count_max=6), *NETWORK.layers[1:]))
    ending.save(tmp_path / "net.npz")
    assert Network.load(tmp_path / "net.npz") == ending and ending.version == 2
    assert ending.layers[0].count_limits == (0, 6)
    for layer, value, message in (
        (conv, 0, f"layer 'conv1': count_max must be within 1..{conv.count_limits[1]}, not 0"),
        (conv, 256, "layer 'conv1': count_max must be within 1..255, not 256"),
        (last, 3, f"layer {last.name!r}: count_max must be None unless activation is 'relu', not 3"),
    ):
        with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
            replace(layer, count_max=value)
