"""Levels of the input: their limits are chosen, and a spike stands for its step all the way through conversion."""

import re

import numpy as np
import pytest
from click.testing import CliRunner

from model.conversion.choice import prepared
from model.conversion.coding import InputCoding, choose_coding
from model.conversion.convert import convert
from model.conversion.quantize import Settings, quantize
from model.convert import main
from model.encode import input_counts
from model.engine.engine import run_frames
from model.importers.onnx import ConversionError, import_model
from model.network import Network
from model.support.datasets import Dataset
from tests.onnx_graphs import Graph

CHANCE = np.random.default_rng(3)


def colour(folder=None):
    """A network of coloured frames that looks at how bright they are."""
    graph = Graph(shape=("frames", 3, 8, 8))
    graph.conv(8, 3, 3, strides=[2, 2]).add("Relu").add("Flatten").linear(72, 4)
    return graph.save(folder / "net.onnx") if folder else graph.model()


def frames(count):
    """Smooth coloured frames, neither dark nor bright."""
    corners = CHANCE.uniform(0, 256, (count, 2, 2, 3))
    return np.repeat(np.repeat(corners, 4, axis=1), 4, axis=2).astype(np.uint8)


def test_what_a_spike_stands_for():
    assert InputCoding().value == 1.0 and InputCoding(10, 51, 4).value == 0.2
    images = np.array([[[[0], [10], [11], [61], [62], [255]]]], np.uint8)
    assert InputCoding(10, 51, 2).counts(images).reshape(-1).tolist() == [0, 0, 1, 1, 2, 2]
    assert InputCoding(10, 51, 2).frames(images).reshape(-1).tolist() == [0, 0, 0.2, 0.2, 0.4, 0.4]


def test_the_most_accurate_limits_with_the_fewest_spikes():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)

    def accuracy(coded):
        """As good as levels are near the grey value."""
        return 1 - float(np.abs(coded - images / 255).max())

    chosen = choose_coding(5, None, None, images=images, accuracy=accuracy, budget=0.0)
    assert chosen == InputCoding(25, 51, 5)
    cheap = choose_coding(5, None, None, images=images, accuracy=accuracy, budget=1.0)
    assert cheap.counts(images).sum() < chosen.counts(images).sum()
    assert choose_coding(5, 40, 30, images=images, accuracy=accuracy, budget=0.0) == InputCoding(40, 30, 5)
    assert choose_coding(1, None, None, images=images, accuracy=accuracy, budget=0.0) == InputCoding(51, 1, 1)
    message = "input levels must all be below 255, not 5 of them, first at 100, then every 40"
    with pytest.raises(ConversionError, match=f"^{re.escape(message)}$"):
        choose_coding(5, 100, 40, images=images, accuracy=accuracy, budget=0.0)


def test_limits_above_one_that_is_given_are_those_for_which_there_is_room():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    given = {"images": images, "accuracy": lambda coded: 0.5, "budget": 0.0}
    assert choose_coding(4, 200, None, **given) == InputCoding(200, 18, 4)
    assert choose_coding(55, 200, None, **given) == InputCoding(200, 1, 55)
    message = "input levels must all be below 255, not 56 of them, first at 200, then every 1"
    with pytest.raises(ConversionError, match=f"^{re.escape(message)}$"):
        choose_coding(56, 200, None, **given)


def test_potentials_are_those_of_the_coded_frames():
    graph = Graph(shape=("frames", 3, 8, 8))
    graph.conv(6, 3, 3, strides=[2, 2], pads=[1] * 4).add("Transpose", perm=[0, 2, 3, 1])
    floats = import_model(graph.model(), "net")
    settings = Settings(weight_bits=16, input_levels=4, input_threshold=30, input_step=51, rounding=False)
    network = quantize(floats, [64.0], settings, name="c")
    assert (network.input_levels, network.input_threshold, network.input_step) == (4, 30, 51)
    images = frames(5)
    assert set(np.unique(input_counts(network, images))) == set(range(5))
    expected = floats.run(input_counts(network, images) / 5)[0].reshape(5, -1)
    found = run_frames(network, images).potentials * 64 / network.layers[0].theta
    assert np.abs(found - expected).max() < 0.02 < np.abs(expected).max()


def test_more_levels_lose_less():
    floats, images = import_model(colour(), "net"), frames(300)
    labels = floats.scores(images.astype(np.float32) / 255).argmax(axis=1)
    data, found = Dataset("own", images, labels.astype(np.int64)), {}
    for levels in (1, 8):
        found[levels] = convert(floats, data, Settings(accuracy_budget=0.01, input_levels=levels), name="own")
        assert found[levels].network.input_levels == levels
        assert not run_frames(found[levels].network, images).saturated_events.any()
    assert [found[levels].steps[0].cause for levels in (1, 8)] == ["1-bit input", "input levels"]
    assert found[1].accuracy_float_1bit < 0.8 < 0.9 < found[8].accuracy_float_1bit
    assert found[8].accuracy_snn > found[1].accuracy_snn + 0.1


@pytest.mark.parametrize(("gained", "one_bit"), [(4, False), (5, True)])
def test_few_frames_tell_a_network_that_was_trained_on_one_bit(gained, one_bit):
    """Five of some dozen frames that only one bit a pixel gets right are luck once in 32 times."""
    floats, images = import_model(colour(), "net"), frames(400)
    labels = floats.scores((images > 51).astype(np.float32)).argmax(axis=1)
    alike = floats.scores(images.astype(np.float32) / 255).argmax(axis=1) == labels
    some = np.concatenate([np.flatnonzero(alike)[:40], np.flatnonzero(~alike)[:gained]])
    data = Dataset("own", images[some], labels[some].astype(np.int64))
    job = prepared(floats, data, Settings(accuracy_budget=0.0))
    assert (job.settings.coding == InputCoding()) is one_bit
    assert job.margins.accuracy == (1.0 if one_bit else 40 / 44)


def test_the_input_has_as_many_levels_as_the_accuracy_needs():
    """The fewest that take no more than half of the budget, or no more than a tenth; one level, where levels are given."""
    # More frames than the coding is chosen on.
    floats, images = import_model(colour(), "net"), frames(600)
    labels = floats.scores(images.astype(np.float32) / 255).argmax(axis=1)
    data = Dataset("own", images, labels.astype(np.int64))
    found = convert(floats, data, Settings(accuracy_budget=0.1), name="own")
    assert found.network.input_levels > 1
    assert found.accuracy_float_1bit >= 0.95 and found.accuracy_snn >= 0.9
    tried = sorted({each.input_levels for each in found.tried})
    assert len(tried) == 2 and found.network.input_levels in tried
    fewer = Settings(accuracy_budget=0.1, input_levels=1, levels=2.0)
    assert convert(floats, data, fewer, name="own").accuracy_float_1bit < 0.95
    assert convert(floats, data, Settings(levels=2.0), name="own").network.input_levels == 1


def test_command(tmp_path):
    path, images = colour(tmp_path), frames(60)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(60) % 4)
    given = [str(path), "--out", str(tmp_path / "net.npz"), "--calibrate", str(tmp_path / "data.npz"), "--json"]
    done = CliRunner().invoke(main, [*given, "--input-levels", "3", "--input-threshold", "20", "--input-step", "70"])
    assert done.exit_code == 0, done.stderr
    network = Network.load(tmp_path / "net.npz")
    assert (network.input_levels, network.input_threshold, network.input_step) == (3, 20, 70)
    assert "float on input of 3 levels " in done.stdout
    done = CliRunner().invoke(main, [*given, "--input-step", "70"])
    assert (done.exit_code, done.stderr) == (2, "error: --input-step must not be given without --input-levels of 2 or more\n")
    done = CliRunner().invoke(main, [*given, "--input-levels", "3", "--for-hardware"])
    assert done.exit_code == 0, done.stderr
    assert Network.load(tmp_path / "net.npz").input_levels == 3


def test_levels_have_to_be_below_full_scale_in_words_of_the_options():
    assert Settings(input_levels=3, input_threshold=200).coding == InputCoding(200, 27, 3)
    message = (
        "--input-levels 3 must all be below 255, not the first at 200 and then every 30: fewer of them, or another "
        "--input-threshold or --input-step"
    )
    with pytest.raises(ConversionError, match=f"^{re.escape(message)}$"):
        _ = Settings(input_levels=3, input_threshold=200, input_step=30).coding
