"""Advice: whoever follows it gets the accuracy that it says; and none is given where none helps."""

from dataclasses import replace

import numpy as np
import pytest

from model.conversion.advice import Advice
from model.conversion.convert import convert
from model.conversion.quantize import Settings
from model.engine.engine import run_frames
from model.golden import answers
from model.importers.onnx import import_model
from model.support.datasets import Dataset
from tests.onnx_graphs import Graph

FRAMES = 200


@pytest.fixture(scope="module")
def given():
    """A network, and frames with its own answers."""

    def graph():
        found = Graph(seed=4).conv(6, 2, 3, pads=[1, 1, 1, 1]).add("Relu").add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
        return found.add("Flatten").linear(6 * 4 * 4, 16).add("Relu").linear(16, 4)

    images = np.random.default_rng(1).integers(0, 256, (FRAMES, 8, 8, 2), dtype=np.uint8)
    frames = images.astype(np.float32) / 255
    # All classes about as often.
    middle = np.median(import_model(graph().model(), "net.onnx").scores(frames), axis=0)
    floats = import_model(graph().add("Sub", middle).model(), "net.onnx")
    return floats, Dataset("own", images, floats.scores(frames).argmax(axis=1))


def followed(settings, options):
    """The settings that stand for the options."""
    words = options.split(" without ")[0].split()
    name = words[0].removeprefix("--").replace("-", "_")
    value = True if len(words) == 1 else words[1]
    if name == "thresholds":
        return replace(settings, channel_thresholds=value == "channel")
    kinds = {"levels": float, "threshold": float, "accuracy_budget": float, "weight_bits": int, "input_levels": int}
    changed = replace(settings, **{name: kinds.get(name, lambda same: same)(value)})
    return replace(changed, burst=1) if "--burst" in options else changed


@pytest.mark.parametrize(
    ("settings", "advised"),
    [
        (Settings(levels=1.0, input_levels=8), {"--levels"}),
        (Settings(levels=8.0), {"--input-levels"}),
        (Settings(levels=2.0, firing="immediate", burst=2, input_levels=8), {"--firing"}),
        (Settings(levels=64.0, input_levels=8, weight_bits=3), {"--weight-bits"}),
        (Settings(levels=8.0, input_levels=8, rounding=False), {"--rounding"}),
        (Settings(threshold=2.0), {"--threshold"}),
        (Settings(weight_bits=2, input_levels=8, accuracy_budget=0), {"--weight-bits"}),
        (Settings(input_levels=1), {"--input-levels"}),
        (Settings(firing="immediate", accuracy_budget=0, input_levels=8), {"--firing"}),
        (Settings(accuracy_budget=0.3, input_levels=1), {"--accuracy-budget"}),
    ],
)
def test_who_follows_it_gets_what_it_says(given, settings, advised):
    found = convert(*given, settings, name="net")
    assert advised <= {advice.options.split()[0] for advice in found.advice}
    for advice in found.advice:
        again = convert(*given, followed(settings, advice.options), name="net")
        assert again.accuracy_snn > found.accuracy_snn
        if advice.accumulations is None:
            assert again.accuracy_snn >= advice.accuracy
        else:
            assert (again.accuracy_snn, again.accumulations_per_frame) == (advice.accuracy, advice.accumulations)


def test_thresholds_by_channel_where_one_channel_takes_all_bits():
    """Beside weights ten thousand times as large nothing is left of others in a scale that all share."""
    large = np.where(np.arange(200) == 3, 1e4, 1).astype(np.float32)
    graph = Graph(seed=4).add("Flatten").linear(128, 200).add("Mul", large).add("Relu").add("Mul", 1 / large).linear(200, 4)
    images = np.random.default_rng(1).integers(0, 256, (FRAMES, 8, 8, 2), dtype=np.uint8)
    frames = images.astype(np.float32) / 255
    scores = import_model(graph.model(), "net.onnx").scores(frames)
    floats = import_model(graph.add("Sub", np.median(scores, axis=0)).model(), "net.onnx")
    data, settings = Dataset("own", images, floats.scores(frames).argmax(axis=1)), Settings(levels=32.0, input_levels=8)
    found = convert(floats, data, settings, name="net")
    (advice,) = (advice for advice in found.advice if advice.options == "--thresholds channel")
    again = convert(floats, data, followed(settings, advice.options), name="net")
    assert (again.accuracy_snn, again.accumulations_per_frame) == (advice.accuracy, advice.accumulations)
    assert found.accuracy_snn < 0.5 and again.accuracy_snn > 0.6


def test_none_where_nothing_is_lost(given):
    floats, data = given
    settings = Settings(levels=64.0, input_levels=32, input_threshold=3, input_step=7, weight_bits=16)
    labels = answers(run_frames(convert(floats, data, settings, name="net").network, data.images).counts)
    found = convert(floats, Dataset("its", data.images, labels), settings, name="net")
    assert (found.accuracy_snn, found.advice) == (1.0, ())


def test_none_where_none_helps(given):
    """Of frames without a sense, more of anything makes no more: some are lost, and others won."""
    floats, data = given
    found = convert(floats, data, Settings(levels=400.0, input_levels=255, weight_bits=16), name="net")
    assert found.accuracy_float - found.accuracy_snn >= 0.002
    assert found.advice == ()


def test_words():
    assert str(Advice("--levels 4", 0.987, 12345.6)) == "--levels 4 gives 98.70% at 12,346 accumulations per frame"
    assert str(Advice("--accuracy-budget 0.001", 0.987)) == "--accuracy-budget 0.001 gives at least 98.70%"
