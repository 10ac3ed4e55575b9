"""Neurons with decaying synaptic currents: times by hand, and networks against their equation solved by bisection."""

import math

import numpy as np
import pytest

from model.studies.temporal_coding import TemporalNetwork, measure, read_temporal, run_temporal, spike_times
from model.support.dataset import DataError, Dataset
from model.support.errors import NetworkError
from model.training.paper_trained import archive

LN_6 = math.log(6)


def network_of(hidden, output, late=LN_6, bright=127):
    return TemporalNetwork(hidden=np.array(hidden, float), output=np.array(output, float), bright=bright, late=late)


def frame(*pixels):
    return np.array(pixels, np.uint8).reshape(1, 1, -1, 1)


def potential(weights, times, at):
    return sum(weight * (1 - math.exp(-(at - time))) for weight, time in zip(weights, times, strict=True) if time <= at)


def first_crossing(weights, times):
    """The first time at which the potential is 1, looked for between one input and the next; it is monotonic there."""
    events = sorted({time for time in times if time < math.inf})
    for begin, end in zip(events, [*events[1:], 40.0], strict=True):
        if potential(weights, times, end - 1e-12) < 1:
            continue
        for _ in range(100):
            middle = (begin + end) / 2
            begin, end = (begin, middle) if potential(weights, times, middle) >= 1 else (middle, end)
        return end
    return math.inf


def test_times_by_hand():
    # A weight of 2 from time 0 on: 2 * (1 - 1/z) = 1 at z = 2, before ln 6. Weights of 1 and 0.5: (1 + 6 * 0.5) / 0.5 = 8.
    network = network_of([[2, 0.5], [1, 0.5], [1, -0.5]], [[1.0, 0, 0], [1.5, 0.5, 9]])
    pixels, hidden, output = spike_times(network, frame(128, 127))
    assert pixels[0].tolist() == [0.0, LN_6]
    assert hidden[0] == pytest.approx([math.log(2), math.log(8), math.inf])
    # A current of 1 alone takes for ever. 1.5 of it from z = 2 on: 3 / 0.5 = 6, before 8.
    assert output[0] == pytest.approx([math.inf, math.log(6)])


@pytest.mark.parametrize("late", [LN_6, 0.2])
def test_random_networks_fire_where_the_potential_is_one(late):
    rng = np.random.default_rng(5)
    network = network_of(rng.normal(0.15, 0.5, (12, 20)), rng.normal(0.2, 0.7, (6, 12)), late)
    images = rng.integers(0, 256, (30, 4, 5, 1), dtype=np.uint8)
    pixels, hidden, output = spike_times(network, images)
    expected = np.array([[first_crossing(row, times) for row in network.hidden] for times in pixels])
    assert hidden == pytest.approx(expected, abs=1e-6)
    assert output == pytest.approx(
        np.array([[first_crossing(row, times) for row in network.output] for times in expected]), abs=1e-6
    )
    # It all happened: neurons that fire before and after the dark pixels, and that do not.
    kinds = [np.isinf(hidden), np.isinf(output), hidden < late, (hidden > late) & (hidden < np.inf), output < np.inf]
    assert [bool(kind.any()) for kind in kinds] == [True] * len(kinds)


def test_the_first_output_spike_answers_and_ends_the_frame():
    hidden = [[2, 0], [1.25, 0], [1, 0.2]]
    network = network_of(hidden, [[1.25, 0, 9], [3, 0, 0], [-1, 0, 9]])
    found = run_temporal(network, frame(255, 0))
    # Hidden neurons fire at z = 2, 5 and 11; the second output at 3, the others at 10 and after 11.
    assert found.answers.tolist() == [1]
    assert found.answer_times == pytest.approx([math.log(3)])
    assert found.spikes.tolist() == [[2, 3, 3]]
    assert found.spikes_by_answer.tolist() == [[1, 1, 1]]


def test_where_none_fires_the_highest_potential_answers():
    network = network_of([[2.0], [0.5]], [[0.25, 9], [0.75, -9]])
    found = run_temporal(network, frame(255))
    assert found.answers.tolist() == [1]
    assert found.answer_times.tolist() == [math.inf]
    assert found.spikes_by_answer.tolist() == [[1, 1, 0]]


def test_figures_by_hand():
    network = network_of([[2, -1.5], [1.25, -1.5]], [[1.25, 0], [3, 0]])
    images = np.concatenate([frame(255, 0), frame(0, 0)])
    seen = []
    found = measure(network, Dataset("two", images, np.array([1, 0])), seen.append)
    assert seen == [2]
    assert (found.frames, found.neurons, found.synapses) == (2, 6, 8)
    # In the second frame no hidden neuron fires, and class 0 is the first of those at 0; both pixels fire late.
    assert (found.accuracy, found.frames_without_output_spike) == (1.0, 1)
    assert found.answer_time_median == round(math.log(3), 3)
    assert found.spikes == [1.5, 0.5, 0.5]
    assert found.spikes_per_neuron == round(2.5 / 6, 4)
    assert found.accumulations_per_frame == 1.5 * 2 + 0.5 * 2
    assert found.spikes_per_neuron_without_end == round(4 / 6, 4)
    assert found.accumulations_per_frame_without_end == 2 * 2 + 1 * 2


def test_frames_of_other_sizes():
    network = network_of([[2.0, 0]], [[1.0]])
    with pytest.raises(DataError) as caught:
        run_temporal(network, frame(1, 2, 3))
    assert str(caught.value) == "frames must be of 2 pixels, not of shape (1, 3, 1)"
    with pytest.raises(ValueError, match=r"^images must be at least one frame, not 0$"):
        run_temporal(network, frame(1, 2)[:0])


GOOD = {
    "hidden": np.ones((3, 4), np.float16),
    "output": np.ones((2, 3), np.float16),
    "bright": np.array(127),
    "late": np.array(2.5),
}
NAMES = "must have matrices hidden and output, and numbers bright and late, not"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"hidden": np.float16(1)}, f"{NAMES} hidden, output, bright, late"),
        ({"more": np.float16(1)}, f"{NAMES} hidden, output, bright, late, more"),
        ({"hidden": np.full((3, 4), np.inf)}, "hidden must be a matrix of finite weights, not one of shape (3, 4)"),
        ({"output": np.ones((2, 4))}, "output must have 3 columns, one per hidden neuron, not 4"),
        ({"bright": np.int64(255)}, "bright must be 0 to 254, not 255"),
        ({"late": np.float64(np.nan)}, "late must be more than 0 and finite, not nan"),
    ],
)
def test_files_that_are_no_network(tmp_path, change, line):
    path = tmp_path / "network.npz"
    path.write_bytes(archive({**GOOD, **change}))
    with pytest.raises(NetworkError) as caught:
        read_temporal(path)
    assert str(caught.value) == f"{path}: {line}"


def test_a_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "network.npz"
    path.write_bytes(archive(GOOD))
    network = read_temporal(path)
    assert (network.hidden.tolist(), network.output.tolist()) == (GOOD["hidden"].tolist(), GOOD["output"].tolist())
    assert (network.bright, network.late) == (127, 2.5)
