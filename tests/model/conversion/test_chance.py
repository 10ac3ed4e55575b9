"""What speaks against an accuracy: chance, and another scale of pixels."""

import json
import subprocess
import sys

import numpy as np
import pytest

from model.conversion.chance import near_chance, other_scale, warn_of_chance
from model.conversion.convert import convert
from model.conversion.quantize import Settings
from model.importers.onnx import import_model
from model.support.datasets import Dataset
from tests.onnx_graphs import Graph

RNG = np.random.default_rng(1)
LABELS = np.arange(500) % 10


def answers(right):
    """Answers to `LABELS` of which so many are right."""
    return np.where(np.arange(500) < right, LABELS, (LABELS + 1) % 10)


def test_near_chance():
    # Of 500 frames of 10 classes, 71 right answers are luck in more than one of 1,000 guessers, 73 in fewer.
    assert [near_chance(answers(right), LABELS) for right in (0, 50, 71, 73, 500)] == [True, True, True, False, False]
    # The most frequent class is what a guesser takes.
    mostly = np.where(np.arange(500) < 450, 0, LABELS)
    assert near_chance(np.zeros(500, int), mostly)
    assert near_chance(mostly, np.zeros(500, int))
    assert not near_chance(mostly, mostly)
    assert near_chance(np.array([0, 1, 1]), np.array([0, 1, 1]))


def test_too_few_frames_are_said_to_be_too_few():
    few = "the network is right on {} of {} frames, too few to tell whether that is more than chance"
    for labels in (LABELS[:1], LABELS[:3] * 0, np.arange(9) % 2, np.array([0] * 49 + [1])):
        frames = len(labels)
        assert warn_of_chance("the network", labels, labels) == [few.format(frames, frames)]
        assert warn_of_chance("the network", labels + 1, labels) == [few.format(0, frames)]
    # So many that all right is enough, or that one class is the data's fault.
    assert warn_of_chance("the network", np.arange(10) % 2, np.arange(10) % 2) == []
    (warning,) = warn_of_chance("the network", np.zeros(20, int), np.zeros(20, int))
    assert warning.startswith("the network is right on 100.0% of 20 frames, no better than always answering class 0 (100.0%): ")


@pytest.mark.parametrize(
    ("factor", "offset", "name", "options"),
    [(255, 0, "0..255", "--scale 255"), (2, -1, "-1..1", "--mean 0.5 --std 0.5"), (1, 0, None, None), (0.5, 0, None, None)],
)
def test_other_scale(factor, offset, name, options):
    frames = RNG.random((400, 4)).astype(np.float32)

    def answer(given):
        # Right where what it gets is what it was trained on, else on a quarter.
        return np.where(np.isclose(given, frames * factor + offset).all(axis=1), 0, np.arange(400) % 4)

    assert other_scale(answer, (frames, frames), np.zeros(400, int)) == ((name, options, 1.0) if name else None)


@pytest.mark.parametrize(
    ("gained", "lost", "found"),
    [
        ((31, 5), (11, 4), True),
        ((5, 31), (4, 11), True),
        ((31, 4), (11, 5), False),
        ((31, 4), (11, 4), False),
        ((24, 24), (11, 11), False),
    ],
)
def test_a_scale_is_better_on_all_inputs_and_on_one_by_more_than_luck(gained, lost, found):
    labels = np.zeros(1000, np.int64)

    def answer(frames):
        which, scaled = int(frames[0, 0] > 100), frames[0, 1] > 100
        wrong = np.zeros(1000, np.int64)
        # Of frames as they are the first are wrong, of scaled ones the last.
        wrong[: 0 if scaled else gained[which]] = 1
        wrong[1000 - (lost[which] if scaled else 0) :] = 1
        return wrong

    first, second = np.zeros((1000, 2), np.float32), np.zeros((1000, 2), np.float32)
    first[:, 1], second[:] = 1, (101, 1)
    other = other_scale(answer, (first, second), labels)
    assert other == (("0..255", "--scale 255", 1 - lost[0] / 1000) if found else None)


@pytest.fixture(scope="module")
def trained_on_255():
    """A network whose biases are those of pixels to 255, and its answers to such as labels."""
    graph = Graph(seed=6).conv(6, 2, 3, bias=False).add("Add", RNG.normal(-200, 100, (6, 1, 1))).add("Relu").add("Flatten")
    graph.linear(6 * 36, 4)
    images = RNG.integers(0, 256, (300, 8, 8, 2), dtype=np.uint8)
    scores = import_model(graph.model(), "net.onnx").scores(images.astype(np.float32))
    model = graph.add("Sub", np.median(scores, axis=0)).model()
    labels = import_model(model, "net.onnx").scores(images.astype(np.float32)).argmax(axis=1)
    return model, images, labels


def test_a_network_of_another_scale_is_a_warning(trained_on_255):
    model, images, labels = trained_on_255
    found = convert(import_model(model, "net.onnx"), Dataset("own", images, labels), Settings(accuracy_budget=1), name="net")
    (warning,) = found.warnings
    assert warning == (
        f"the float network is right on {found.accuracy_float:.1%} of 300 frames with pixels of 0..1, and on 100.0% "
        "with pixels of 0..255: it was probably trained on those; give --scale 255"
    )


def test_a_network_near_chance_is_a_warning(tmp_path, trained_on_255):
    model, images, _ = trained_on_255
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    np.savez(tmp_path / "data.npz", images=images, labels=RNG.integers(0, 4, 300))
    command = ["model.convert", tmp_path / "net.onnx", "-o", tmp_path / "net.npz", "--calibrate", tmp_path / "data.npz"]
    done = subprocess.run(
        [sys.executable, "-m", *command, "--accuracy-budget", "1", "--json"], capture_output=True, text=True, check=True
    )
    (warning,) = json.loads(done.stdout)["warnings"]
    assert warning.startswith("the float network is right on ")
    assert ", no better than always answering class " in warning
    assert done.stderr.splitlines()[-1] == f"warning: {warning}"


def test_conversion_is_to_blame_where_the_float_network_is_right():
    answers = np.zeros(500, dtype=np.int64)
    assert warn_of_chance("the spiking network", answers, LABELS, start=0.94) == [
        "the spiking network is right on 10.0% of 500 frames, no better than always answering class 0 (10.0%), and the float "
        "network on 94.0%: what was lost, conversion lost"
    ]
    assert warn_of_chance("the spiking network", LABELS, LABELS, start=0.94) == []


def right(frames):
    """A network with its own answers to frames of one bit, as its conversion."""
    graph = Graph(seed=3).conv(6, 2, 3).add("Relu").add("Flatten").linear(6 * 36, 3)
    images = ((np.random.default_rng(2).random((200, 8, 8, 2)) < 0.4) * 255).astype(np.uint8)
    scores = import_model(graph.model(), "net.onnx").scores(images.astype(np.float32) / 255)
    floats = import_model(graph.add("Sub", np.median(scores, axis=0)).model(), "net.onnx")
    labels = floats.scores(images.astype(np.float32) / 255).argmax(axis=1)
    return floats, Dataset("own", images[:frames], labels[:frames])


def test_conversion_says_that_it_lost_all():
    found = convert(*right(200), Settings(threshold=1e9), name="net")
    (warning,) = found.warnings
    assert found.accuracy_float == 1.0
    assert warning.endswith(", and the float network on 100.0%: what was lost, conversion lost")


@pytest.mark.parametrize(("frames", "settings", "said"), [(99, {}, True), (100, {}, False), (50, {"threshold": 0.5}, False)])
def test_few_frames_are_said_to_be_few(frames, settings, said):
    found = convert(*right(frames), Settings(**settings), name="net")
    words = "thresholds were chosen on 99 frames, too few to tell what others lose: calibrate on some hundreds"
    assert found.warnings == ((words,) if said else ())


def test_a_network_that_is_right_is_none():
    graph = Graph(seed=3).conv(6, 2, 3).add("Relu").add("Flatten").linear(6 * 36, 3)
    images = ((RNG.random((200, 8, 8, 2)) < 0.4) * 255).astype(np.uint8)
    scores = import_model(graph.model(), "net.onnx").scores(images.astype(np.float32) / 255)
    floats = import_model(graph.add("Sub", np.median(scores, axis=0)).model(), "net.onnx")
    labels = floats.scores(images.astype(np.float32) / 255).argmax(axis=1)
    found = convert(floats, Dataset("own", images, labels), Settings(accuracy_budget=0.1), name="net")
    assert (found.accuracy_float, found.warnings) == (1.0, ())
