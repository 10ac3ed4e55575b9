"""What a spiking network does on frames, against its own spikes, one frame at a time."""

from dataclasses import replace

import numpy as np
import pytest

from model.benchmark import measure as measuring
from model.benchmark.measure import measure
from model.encode import encode
from model.engine.engine import run_frames
from model.golden import run
from model.network import Convolution, Linear, MaxPool, Network
from model.support.dataset import Dataset
from model.support.errors import MismatchError


def network(firing):
    rng = np.random.default_rng(5)
    return Network(
        name="tiny",
        input_shape=(6, 6, 1),
        firing=firing,
        layers=(
            Convolution(
                name="c",
                source="input",
                weights=rng.integers(-20, 60, (3, 1, 3, 3)),
                bias=np.zeros(3, np.int64),
                threshold_log2=5,
            ),
            MaxPool(name="p", source="c", window=(2, 2), stride=(2, 2)),
            Linear(name="f", source="p", weights=rng.integers(-30, 40, (4, 12)), bias=np.zeros(4, np.int64), threshold_log2=4),
        ),
    )


@pytest.mark.parametrize("firing", ["deferred", "immediate"])
def test_spikes_are_those_of_the_golden_model(firing):
    net = network(firing)
    rng = np.random.default_rng(6)
    images = rng.integers(0, 256, (5, 6, 6, 1), dtype=np.uint8)
    traces = [run(net, encode(net, image)) for image in images]
    fired = {name: np.mean([len(trace.layers[name].spikes) for trace in traces]) for name in ("c", "p", "f")}
    inputs = np.mean([len(trace.events) for trace in traces])
    right = [int(np.argmax(trace.layers["f"].count.ravel())) for trace in traces]
    data = Dataset("drawn", images, np.array([*right[:4], (right[4] + 1) % 4]))
    found = measure(net, data)
    assert (found.frames, found.accuracy, found.neurons) == (5, 0.8, net.neurons)
    assert fired["p"] < fired["c"]
    assert found.input_events == round(inputs, 2)
    assert (found.hidden_spikes, found.output_spikes) == (round(fired["c"], 2), round(fired["f"], 2))
    assert found.sent == round(inputs + fired["p"], 2)
    assert found.spikes == pytest.approx(inputs + fired["c"] + fired["f"])
    assert found.spikes_per_neuron == pytest.approx((fired["c"] + fired["f"]) / net.neurons)
    operations = np.mean([sum(layer.operations for layer in trace.layers.values()) for trace in traces])
    assert found.accumulations == round(float(operations), 1)
    assert [layer.layer for layer in found.layers] == ["c", "p", "f"]
    if firing == "deferred":
        assert found.accuracy_quantized == found.accuracy
    assert measure(net, replace(data, images=images[:2], labels=data.labels[:2])).accuracy == 1.0


def test_an_engine_that_differs_is_an_error(monkeypatch):
    def one_more(network, images):
        found = run_frames(network, images)
        return replace(found, spikes=found.spikes + 1)

    monkeypatch.setattr(measuring, "run_frames", one_more)
    data = Dataset("drawn", np.full((2, 6, 6, 1), 200, np.uint8), np.zeros(2, np.int64))
    with pytest.raises(MismatchError, match=r"^tiny: spikes must be the quantized network's; report this network$"):
        measure(network("deferred"), data)
