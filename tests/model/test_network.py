"""Networks: checks with whole messages, and the file form."""

import io
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.network import Convolution, MaxPool, Network, Shape, taps
from model.support.errors import NetworkError
from model.support.names import LAYER_NAME
from sim.generators.networks import random_linear, random_network


def test_round_trip_and_determinism(tmp_path):
    network = random_network(5)
    network.save(tmp_path / "net.npz")
    assert Network.load(tmp_path / "net.npz") == network
    assert (tmp_path / "net.npz").read_bytes() == network.to_bytes() == random_network(5).to_bytes()
    assert network != random_network(6)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("cut", [0, 10, 100, 1000, -1])
def test_truncated_file(tmp_path, cut):
    path = tmp_path / "net.npz"
    path.write_bytes(random_network(5).to_bytes()[:cut])
    with pytest.raises(NetworkError, match=f"^{re.escape(str(path))}: ") as caught:
        Network.load(path)
    assert "\n" not in str(caught.value)


def test_every_damaged_byte_is_noticed_or_harmless(tmp_path):
    network = random_network(5)
    content, path = network.to_bytes(), tmp_path / "net.npz"
    rng = np.random.default_rng(0)
    noticed = 0
    for at in rng.integers(0, len(content), 60):
        damaged = bytearray(content)
        damaged[at] ^= 0x55
        path.write_bytes(damaged)
        try:
            assert Network.load(path) == network
        except NetworkError as error:
            noticed += str(error).startswith(f"{path}: ")
    assert noticed > 30


def rewritten(tmp_path, change):
    """A network file whose header is changed."""
    source, path = tmp_path / "source.npz", tmp_path / "net.npz"
    random_network(5).save(source)
    with np.load(source) as archive:
        arrays = {name: archive[name] for name in archive.files}
    header = json.loads(bytes(arrays["header"]))
    change(header)
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(path, **arrays)
    return path


def test_wrong_version(tmp_path):
    path = rewritten(tmp_path, lambda header: header.update(version=99))
    with pytest.raises(NetworkError, match=rf"^{re.escape(str(path))}: version must be within 1\.\.3, not 99$"):
        Network.load(path)


def test_unknown_field_and_kind(tmp_path):
    path = rewritten(tmp_path, lambda header: header["layers"][0].update(colour="red"))
    with pytest.raises(NetworkError, match=r"layer 'conv1': fields must be .* not .*'colour'"):
        Network.load(path)
    path = rewritten(tmp_path, lambda header: header["layers"][0].update(kind="lstm"))
    with pytest.raises(NetworkError, match=r"layer 'conv1': kind must be one of .*'maxpool'\], not 'lstm'$"):
        Network.load(path)


def test_something_else_and_missing(tmp_path):
    path = tmp_path / "other.npz"
    with pytest.raises(NetworkError, match=f"^{re.escape(str(path))}: cannot be read: No such file or directory$"):
        Network.load(path)
    path.write_text("hello")
    with pytest.raises(NetworkError, match="must be a Tally network file"):
        Network.load(path)
    onnx = path.with_suffix(".onnx")
    onnx.write_bytes(b"hello")
    with pytest.raises(NetworkError, match=r"other\.onnx: must be a Tally network file, is an ONNX file, to be converted first$"):
        Network.load(onnx)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(NetworkError):
        Network.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.full((3, 4), 200)}, "layer 'fc': weights must be within -128..127 (8 bits), not 200"),
        ({"weights": np.ones((3, 4)) * 0.5}, "layer 'fc': weights must be integers, not float64"),
        ({"weights": np.ones((3, 4, 1), int)}, "layer 'fc': weights must have 2 dimensions (out, in), not 3"),
        ({"bias": np.zeros(2, int)}, "layer 'fc': bias must have shape (3,), not (2,)"),
        ({"threshold_log2": 15}, "layer 'fc': threshold_log2 must be within 0..14, not 15"),
        ({"activation": "tanh"}, "layer 'fc': activation must be 'relu' or 'identity', not 'tanh'"),
        ({"count_bits": 0}, "layer 'fc': count_bits must be within 1..16, not 0"),
        ({"name": "a b"}, f"layer name must be {LAYER_NAME}, other than 'input', not 'a b'"),
    ],
)
def test_layer_errors(change, message):
    layer = random_linear(0, inputs=4, outputs=3)
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        replace(layer, **change)


def test_shapes_must_fit():
    fc = random_linear(0, inputs=4, outputs=3)
    with pytest.raises(NetworkError, match=r"^layer 'fc': weights take 4 inputs, but .* has shape 1x1x5, which is 5$"):
        Network(name="n", input_shape=Shape(1, 1, 5), layers=(fc,))
    conv = Convolution(name="c", source="input", weights=np.ones((1, 2, 3, 3), int), bias=np.zeros(1, int), threshold_log2=3)
    with pytest.raises(NetworkError, match=r"^layer 'c': window 3x3 is larger than its padded input 2x2x2$"):
        Network(name="n", input_shape=Shape(2, 2, 2), layers=(conv,))
    with pytest.raises(NetworkError, match=r"^layer 'fc': source must be an earlier layer or 'input', not 'nowhere'$"):
        Network(name="n", input_shape=Shape(1, 1, 4), layers=(replace(fc, source="nowhere"),))
    with pytest.raises(TypeError, match=r"^layer 'p': window must be an integer, not 2.0$"):
        MaxPool(name="p", source="input", window=(2.0, 2), stride=(2, 2))


GROUPED = Convolution(
    name="c", source="input", weights=np.ones((4, 1, 3, 3), int), bias=np.zeros(4, int), threshold_log2=3, groups=2
)


def test_groups_in_the_file_form(tmp_path):
    """Written where there are groups; files of networks without them stay as they were."""
    network = Network(name="n", input_shape=Shape(5, 5, 2), layers=(GROUPED,))
    network.save(tmp_path / "net.npz")
    read = Network.load(tmp_path / "net.npz")
    assert read == network and read.layers[0].groups == 2 and read.shapes[0] == Shape(3, 3, 4)
    ordinary = replace(GROUPED, weights=np.ones((4, 2, 3, 3), int), groups=1)
    for layer, written in ((GROUPED, True), (ordinary, False)):
        Network(name="n", input_shape=Shape(5, 5, 2), layers=(layer,)).save(tmp_path / "net.npz")
        with np.load(tmp_path / "net.npz") as archive:
            assert ("groups" in json.loads(bytes(archive["header"]))["layers"][0]) == written
    zoo = Path(__file__).parents[2] / "model/zoo/mnist-paper.npz"
    with np.load(zoo) as file, np.load(io.BytesIO(Network.load(zoo).to_bytes())) as again:
        assert bytes(file["header"]) == bytes(again["header"])


def test_groups_must_fit():
    with pytest.raises(NetworkError, match=r"^layer 'c': groups must divide the 4 channels, not 3$"):
        replace(GROUPED, groups=3)
    with pytest.raises(NetworkError, match=r"^layer 'c': groups must be within 1\.\.4, not 0$"):
        replace(GROUPED, groups=0)
    with pytest.raises(TypeError, match=r"^layer 'c': groups must be an integer, not True$"):
        replace(GROUPED, groups=True)
    with pytest.raises(NetworkError, match=r"^layer 'c': weights take 2 input channels, but .* has shape 5x5x3$"):
        Network(name="n", input_shape=Shape(5, 5, 3), layers=(GROUPED,))


def test_taps_are_the_transposed_convolution():
    for size, kernel, stride, padding in ((7, 5, 1, 2), (8, 4, 2, 1), (5, 2, 3, 0)):
        outputs = (size + 2 * padding - kernel) // stride + 1
        reached = taps(size=size, outputs=outputs, kernel=kernel, stride=stride, padding=padding)
        pairs = {(i, o, k) for i, of in enumerate(reached) for o, k in of}
        assert pairs == {(i, o, k) for o in range(outputs) for k in range(kernel) if 0 <= (i := o * stride + k - padding) < size}


def test_addresses_are_channel_minor():
    shape = Shape(3, 4, 5)
    assert shape.address(1, 2, 3) == (1 * 4 + 2) * 5 + 3
    assert [shape.coordinates(shape.address(y, x, c)) for y in range(3) for x in range(4) for c in range(5)] == [
        (y, x, c) for y in range(3) for x in range(4) for c in range(5)
    ]
