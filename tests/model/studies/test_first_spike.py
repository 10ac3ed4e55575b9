"""The time to first spike: neurons whose times are computed by hand, and a network against its equation."""

import numpy as np
import pytest

from model.importers.float_network import ConversionError, FloatLayer
from model.importers.onnx import import_model
from model.network import Padding, Shape
from model.studies.first_spike import FirstSpikeNetwork, convert_first_spikes, run_first_spikes, spike_times_of_layers
from model.studies.synapses import stages_of
from tests.onnx_graphs import Graph


def linear(weights, bias, name="f", source="input"):
    return FloatLayer(
        kind="linear", source=source, name=name, tensor=name, weights=np.array(weights, float), bias=np.array(bias, float)
    )


def network_of(shape, *layers, input_spikes=True, duration=32.0):
    return FirstSpikeNetwork(
        input_shape=shape,
        stages=stages_of(layers, shape),
        scales=(1.0,) * len(layers),
        input_spikes=input_spikes,
        duration=duration,
    )


def pixels(*values):
    return np.array(values, np.uint8).reshape(1, 1, 1, -1)


def test_time_of_one_neuron():
    shape = Shape(1, 1, 2)
    # Pixels of 1 and 0.2 fire at 1 and 5: u(5) = 4/8, then 3/8 a unit of time: 5 + 4/3.
    times = spike_times_of_layers(network_of(shape, linear([[0.125, 0.25]], [0])), pixels(255, 51))
    assert times["f"][0] == pytest.approx([5 + 4 / 3])
    # A bias of 1/8 from the first spike on: u(5) = 8/8, just when the second one arrives.
    times = spike_times_of_layers(network_of(shape, linear([[0.125, 0.25]], [0.125])), pixels(255, 51))
    assert times["f"].tolist() == [[5.0]]
    # As currents, from 0 on: 1/8 + 0.2/4 a unit of time.
    times = spike_times_of_layers(network_of(shape, linear([[0.125, 0.25]], [0]), input_spikes=False), pixels(255, 51))
    assert times["f"][0] == pytest.approx([1 / 0.175])


def test_a_late_inhibitory_spike_comes_too_late():
    shape = Shape(1, 1, 2)
    network = network_of(shape, linear([[0.5, -9], [0.125, -9]], [0, 0]))
    times = spike_times_of_layers(network, pixels(255, 51))
    # The first neuron is over the threshold at 3 and fires once; the second, slower one is held back for good.
    assert times["f"].tolist() == [[3.0, np.inf]]


def test_black_frame_wakes_no_bias():
    shape = Shape(1, 1, 1)
    for spikes in (True, False):
        network = network_of(shape, linear([[0.5]], [0], "a"), linear([[1.0]], [0.5], "b"), input_spikes=spikes)
        times = spike_times_of_layers(network, pixels(0))
        assert np.isinf(times["b"]).all()


def test_pool_passes_the_first_spike():
    shape = Shape(1, 2, 1)
    first = FloatLayer(
        kind="convolution", source="input", name="c", tensor="c", weights=np.ones((1, 1, 1, 1)), bias=np.zeros(1), relu=True
    )
    pool = FloatLayer(kind="maxpool", source="c", name="p", tensor="p", window=(1, 2), stride=(1, 2))
    network = network_of(shape, first, pool, linear([[0.5]], [0], source="p"), input_spikes=False)
    times = spike_times_of_layers(network, np.array([51, 102], np.uint8).reshape(1, 1, 2, 1))
    assert times["c"][0] == pytest.approx([5, 2.5])
    assert times["p"][0] == pytest.approx([2.5])
    assert times["f"][0] == pytest.approx([4.5])


def test_answer_is_the_first_spike_and_ends_the_frame():
    shape = Shape(1, 1, 2)
    hidden = linear([[1.0, 0], [0, 1.0]], [0, 0], "h")
    network = network_of(shape, hidden, linear([[0.25, 0], [1.0, 0], [0, 1.0]], [0, 0, 0], "f"))
    found = run_first_spikes(network, pixels(255, 51))
    # Pixels at 1 and 5, hidden at 2 and 6, outputs at 6, 3 and 7: class 1 at 3.
    assert found.answers.tolist() == [1]
    assert found.answer_times.tolist() == [3.0]
    assert found.input_spikes.tolist() == [2]
    assert found.input_spikes_by_answer.tolist() == [1]
    assert found.spikes.tolist() == [[2, 3]]
    assert found.spikes_by_answer.tolist() == [[1, 1]]
    assert found.operations.tolist() == [[4, 6]]
    assert found.operations_by_answer.tolist() == [[2, 3]]
    assert found.input_operations.tolist() == [0]


def test_where_none_fires_the_highest_potential_answers():
    shape = Shape(1, 1, 1)
    network = network_of(shape, linear([[0.01], [0.02], [-1]], [0, 0, 0]), duration=8.0)
    found = run_first_spikes(network, pixels(255))
    assert found.answers.tolist() == [1]
    assert found.answer_times.tolist() == [8.0]
    assert found.spikes.tolist() == [[0]]


def reference(layers, shape, image, duration):
    """Times of the layers by their equation, each neuron alone: the earliest root over all sets of inputs that fired."""
    with np.errstate(divide="ignore"):
        times = (255 / image).reshape(shape)
    found = {}
    for layer in layers:
        output = layer.output_shape(shape)
        fired = np.full(output, np.inf)
        begin = times.min()
        for y, x, c in np.ndindex(*output):
            if layer.kind == "maxpool":
                fired[y, x, c] = times[2 * y : 2 * y + 2, 2 * x : 2 * x + 2, c].min()
                continue
            if layer.kind == "linear":
                taken = [(times[at], layer.weights[c, shape.address(*at)]) for at in np.ndindex(*shape)]
            else:
                places = [
                    ((y + ky - layer.padding[0], x + kx - layer.padding[1], i), layer.weights[c, i, ky, kx])
                    for i, ky, kx in np.ndindex(*layer.weights.shape[1:])
                ]
                taken = [
                    (times[at], weight)
                    for at, weight in places
                    if all(0 <= n < size for n, size in zip(at, shape, strict=True))
                ]
            taken = sorted(pair for pair in taken if pair[0] <= duration)
            for known in range(len(taken) + 1):
                slope = layer.bias[c] + sum(weight for _, weight in taken[:known])
                offset = layer.bias[c] * begin + sum(weight * time for time, weight in taken[:known])
                low = taken[known - 1][0] if known else begin
                high = taken[known][0] if known < len(taken) else duration
                root = (1 + offset) / slope if slope > 0 else np.inf
                if low - 1e-12 <= root <= high and begin <= duration:
                    fired[y, x, c] = root
                    break
        found[layer.name] = times = fired
        shape = output
    return found


def test_random_network_fires_by_the_equation():
    rng = np.random.default_rng(9)
    layers = [
        FloatLayer(kind="convolution", source="input", name="c", tensor="c", weights=rng.normal(0.03, 0.2, (3, 2, 3, 3)),
                   bias=rng.normal(0, 0.05, 3), window=(3, 3), padding=Padding(1, 1, 1, 1), relu=True),
        FloatLayer(kind="maxpool", source="c", name="p", tensor="p", window=(2, 2), stride=(2, 2)),
        linear(rng.normal(0.05, 0.3, (4, 27)), rng.normal(0, 0.1, 4), source="p"),
    ]
    images = rng.integers(0, 256, (5, 6, 6, 2)).astype(np.uint8)
    images[rng.random(images.shape) < 0.3] = 0
    network = network_of(Shape(6, 6, 2), *layers, duration=20.0)
    found = spike_times_of_layers(network, images)
    silent = fired = 0
    for frame, image in enumerate(images):
        for name, times in reference(layers, Shape(6, 6, 2), image, 20.0).items():
            assert found[name][frame] == pytest.approx(times.reshape(-1), rel=1e-9), name
            fired += np.isfinite(times).sum()
            silent += np.isinf(times).sum()
    assert fired > 100 and silent > 50
    # The company of other frames changes nothing.
    whole = run_first_spikes(network, np.tile(images, (30, 1, 1, 1)))
    alone = run_first_spikes(network, images)
    assert (whole.answers == np.tile(alone.answers, 30)).all()
    assert (whole.operations_by_answer == np.tile(alone.operations_by_answer, (30, 1))).all()
    assert (alone.operations_by_answer <= alone.operations).all()


def test_one_layer_of_currents_is_the_inverse_of_the_float_network():
    graph = Graph(shape=("frames", 2, 4, 4), seed=10)
    graph.conv(3, 2, 3).add("Relu").add("Flatten", axis=1).linear(12, 3)
    floats = import_model(graph.model(), "net")
    images = np.random.default_rng(11).integers(0, 256, (6, 4, 4, 2)).astype(np.uint8)
    network = convert_first_spikes(floats, images, percentile=100, duration=1e6)
    times = spike_times_of_layers(network, images)[floats.layers[0].name]
    values = floats.run(images / 255, [floats.layers[0].tensor])[0].transpose(0, 2, 3, 1).reshape(6, -1)
    values = np.maximum(values, 0) / network.scales[0]
    with np.errstate(divide="ignore"):
        assert times == pytest.approx(1 / values, rel=1e-4)
    assert times.min() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("duration", [0, -1.0, float("inf")])
def test_duration_out_of_range(duration):
    floats = import_model(Graph(shape=("frames", 1, 4, 4)).add("Flatten", axis=1).linear(16, 2).model(), "net")
    with pytest.raises(ValueError, match=rf"^duration must be more than 0 and finite, not {duration}$"):
        convert_first_spikes(floats, np.zeros((1, 4, 4, 1), np.uint8), duration=duration)


def test_frames_of_another_shape():
    network = network_of(Shape(1, 1, 2), linear([[1, 1]], [0]))
    with pytest.raises(ConversionError) as caught:
        run_first_spikes(network, pixels(1, 2, 3))
    assert str(caught.value) == "frames must have the network's shape (1, 1, 2), not (1, 1, 3)"
    with pytest.raises(ValueError, match=r"^images must be at least one frame, not 0$"):
        run_first_spikes(network, pixels(1, 2)[:0])
