"""The rate code: one neuron by hand, gates by hand, and a network against a slow reading of the rules."""

import numpy as np
import pytest

from model.importers.float_network import ConversionError, FloatLayer
from model.importers.onnx import import_model
from model.network import Padding, Shape
from model.studies.rate_coded import RateNetwork, convert_rates, run_rates
from model.studies.synapses import NeuronStage, stages_of
from tests.onnx_graphs import Graph


def linear(weights, bias, name="f", source="input"):
    return FloatLayer(
        kind="linear", source=source, name=name, tensor=name, weights=np.array(weights, float), bias=np.array(bias, float)
    )


def network_of(shape, *layers, input_threshold=None):
    stages = stages_of(layers, shape)
    return RateNetwork(input_shape=shape, stages=stages, scales=(1.0,) * len(layers), input_threshold=input_threshold)


def white(frames, shape):
    return np.full((frames, *shape), 255, np.uint8)


def spike_steps(found, layer=0):
    return (np.flatnonzero(found.spikes[0, :, layer]) + 1).tolist()


def test_neuron_fires_at_the_rate_of_its_current():
    shape = Shape(1, 1, 1)
    found = run_rates(network_of(shape, linear([[0.375]], [0])), white(1, shape), 16)
    # 3 spikes in 8 steps: 3/8, 6/8, 9/8 -> 1/8, 4/8, 7/8, 10/8 -> 2/8, 5/8, 8/8 -> 0.
    assert spike_steps(found) == [3, 6, 8, 11, 14, 16]
    assert found.input_operations.tolist() == [1]
    assert found.current_operations.tolist() == [1]


def test_reset_by_subtraction_keeps_what_is_left_over():
    # 1.75 a step: once a step at most, the rest is kept, and counts when the current turns negative.
    shape = Shape(1, 1, 2)
    network = network_of(shape, linear([[1.75, -1.0]], [0]))
    grey = np.array([[[[255, 0]]], [[[255, 255]]]], np.uint8)
    found = run_rates(network, grey, 4)
    assert found.counts.tolist() == [[4], [3]]
    second = run_rates(network_of(shape, linear([[1.75, 0], [1, 0.5]], [0, 0])), grey[:1], 4)
    # By count both classes have four spikes, and the first wins; by potential it has 7 to 4.
    assert second.counts.tolist() == [[4, 4]]
    assert second.answers.tolist() == [[0, 0, 0, 0]]
    swapped = run_rates(network_of(shape, linear([[1, 0.5], [1.75, 0]], [0, 0])), grey[:1], 4)
    assert swapped.answers.tolist() == [[0, 0, 0, 0]]
    assert swapped.answers_potential.tolist() == [[1, 1, 1, 1]]


def test_bias_is_a_current_in_every_step_and_negative_potentials_stay():
    shape = Shape(1, 1, 1)
    found = run_rates(network_of(shape, linear([[-1.0]], [0.5])), white(1, shape), 8)
    assert spike_steps(found) == []
    found = run_rates(network_of(shape, linear([[-1.0]], [0.5])), np.zeros((1, *shape), np.uint8), 8)
    assert spike_steps(found) == [2, 4, 6, 8]
    assert found.input_operations.tolist() == [0]


def test_pixels_of_one_bit():
    shape = Shape(1, 1, 1)
    images = np.array([51, 52], np.uint8).reshape(2, *shape)
    found = run_rates(network_of(shape, linear([[1.0]], [0]), input_threshold=51), images, 3)
    assert found.spikes[:, :, 0].tolist() == [[0, 0, 0], [1, 1, 1]]


def test_gate_passes_the_neuron_that_fired_most():
    shape = Shape(1, 2, 1)
    # Currents 0.5 and 0.75 in a window of two: steps 2, 4, 6, 8 and 2, 3, 4, 6, 7, 8.
    first = FloatLayer(
        kind="convolution", source="input", name="c", tensor="c", weights=np.ones((1, 1, 1, 1)), bias=np.zeros(1), relu=True
    )
    pool = FloatLayer(kind="maxpool", source="c", name="p", tensor="p", window=(1, 2), stride=(1, 2))
    network = network_of(shape, first, pool, linear([[1.0]], [0], source="p"))
    network = RateNetwork(
        input_shape=shape,
        stages=(
            NeuronStage(name="c", synapses=network.stages[0].synapses, bias=np.array([0.5, 0.75])),
            *network.stages[1:],
        ),
        scales=(1.0, 1.0),
        input_threshold=None,
    )
    found = run_rates(network, np.zeros((1, *shape), np.uint8), 8)
    # A tie at step 2, where the first one's spike passes, and only one; from step 3 on the second one's.
    assert spike_steps(found, 1) == [2, 3, 4, 6, 7, 8]
    assert found.operations[0, :, 1].tolist() == [0, 1, 1, 1, 0, 1, 1, 1]


def small(seed=5):
    """A network whose weights are multiples of 1/64, so that sums are exact in any order."""
    rng = np.random.default_rng(seed)

    def array(*shape):
        return rng.integers(-40, 56, shape) / 64

    layers = [
        FloatLayer(kind="convolution", source="input", name="c", tensor="c", weights=array(3, 2, 3, 3), bias=array(3) / 4,
                   window=(3, 3), padding=Padding(1, 1, 1, 1), relu=True),
        FloatLayer(kind="maxpool", source="c", name="p", tensor="p", window=(2, 2), stride=(2, 2)),
        FloatLayer(kind="convolution", source="p", name="d", tensor="d", weights=array(4, 3, 2, 2), bias=array(4) / 4,
                   window=(2, 2), relu=True),
        FloatLayer(kind="linear", source="d", name="f", tensor="f", weights=array(5, 16), bias=array(5) / 4),
    ]
    return network_of(Shape(6, 6, 2), *layers, input_threshold=127), layers


def slowly(layers, shape, image, steps):
    """The rules, neuron by neuron; spikes of each layer in each step, and accumulations of each."""
    values = (image > 127).astype(float)
    states, counts, fired_of, work_of = {}, {}, {}, {}
    for _ in range(steps):
        arriving, source = None, shape
        for layer in layers:
            output = layer.output_shape(source)
            fired = np.zeros(output, int)
            if layer.kind == "maxpool":
                counted = counts.setdefault(layer.name, np.zeros(source, int))
                counted += arriving
                for y, x, c in np.ndindex(*output):
                    inside = [(2 * y + dy, 2 * x + dx, c) for dy in (0, 1) for dx in (0, 1)]
                    most = max(inside, key=lambda at: counted[at])
                    fired[y, x, c] = arriving[most]
            else:
                V = states.setdefault(layer.name, np.zeros(output))
                work = 0
                for y, x, c in np.ndindex(*output):
                    V[y, x, c] += layer.bias[c]
                    if layer.kind == "linear":
                        taken = [(at, layer.weights[c, source.address(*at)]) for at in np.ndindex(*source)]
                    else:
                        taken = [
                            ((y + ky - layer.padding[0], x + kx - layer.padding[1], i), layer.weights[c, i, ky, kx])
                            for i, ky, kx in np.ndindex(*layer.weights.shape[1:])
                        ]
                    for at, weight in taken:
                        if all(0 <= n < size for n, size in zip(at, source, strict=True)):
                            V[y, x, c] += weight * (values if arriving is None else arriving)[at]
                            work += 0 if arriving is None else arriving[at]
                    if V[y, x, c] >= 1:
                        V[y, x, c] -= 1
                        fired[y, x, c] = 1
                fired_of.setdefault(layer.name, []).append(fired.sum())
                work_of.setdefault(layer.name, []).append(work)
            arriving, source = fired, output
        counts["answer"] = counts.get("answer", 0) + arriving.reshape(-1)
    return fired_of, work_of, counts["answer"]


def test_random_network_is_the_slow_reading_of_the_rules():
    network, layers = small()
    images = np.random.default_rng(6).integers(0, 256, (4, 6, 6, 2)).astype(np.uint8)
    found = run_rates(network, images, 6)
    passed = 0
    for frame, image in enumerate(images):
        fired, work, counts = slowly(layers, Shape(6, 6, 2), image, 6)
        assert found.spikes[frame].T.tolist() == list(fired.values())
        assert found.operations[frame].T.tolist() == list(work.values())
        assert found.counts[frame].tolist() == counts.tolist()
        passed += sum(map(sum, fired.values()))
    assert passed > 100
    # The number of steps and the company of other frames change nothing.
    again = run_rates(network, np.tile(images, (20, 1, 1, 1)), 3)
    assert (again.spikes == np.tile(found.spikes[:, :3], (20, 1, 1))).all()
    assert (again.answers[-4:] == found.answers[:, :3]).all()


def test_many_steps_come_close_to_the_float_network():
    graph = Graph(shape=("frames", 2, 6, 6), seed=7)
    graph.conv(3, 2, 3, pads=[1, 1, 1, 1]).add("Relu").add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    graph.add("Flatten", axis=1).linear(27, 6).add("Relu").linear(6, 4).add("Relu")
    floats = import_model(graph.model(), "net")
    images = np.random.default_rng(8).integers(0, 256, (12, 6, 6, 2)).astype(np.uint8)
    network = convert_rates(floats, images, percentile=100)
    wanted = floats.run(images / 255)[0] / network.scales[-1]
    errors = [np.abs(run_rates(network, images, steps).counts / steps - wanted).max() for steps in (10, 100, 2000)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02
    assert network.neurons == 108 + 6 + 4


@pytest.mark.parametrize(
    ("steps", "kind", "line"),
    [
        (0, ValueError, "steps must be 1 or more, not 0"),
        (2.0, TypeError, "steps must be an integer, not 2.0"),
        (True, TypeError, "steps must be an integer, not True"),
    ],
)
def test_steps_out_of_range(steps, kind, line):
    with pytest.raises(kind) as caught:
        run_rates(small()[0], np.zeros((1, 6, 6, 2), np.uint8), steps)
    assert str(caught.value) == line


def test_frames_of_another_shape():
    with pytest.raises(ConversionError) as caught:
        run_rates(small()[0], np.zeros((1, 6, 5, 2), np.uint8), 1)
    assert str(caught.value) == "frames must have the network's shape (6, 6, 2), not (6, 5, 2)"
    with pytest.raises(ValueError, match=r"^images must be at least one frame, not 0$"):
        run_rates(small()[0], np.zeros((0, 6, 6, 2), np.uint8), 1)
