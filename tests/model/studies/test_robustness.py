"""The study of robustness against the golden model, and without any disturbance."""

from pathlib import Path

import numpy as np
import pytest

from model.conversion.quantized import counts_of_layers, quantized_counts
from model.encode import encode
from model.engine.engine import run_frames
from model.golden import run
from model.network import Network, Neurons
from model.studies.disturb import reorder
from model.studies.parting import with_finer_thresholds
from model.studies.robustness import study
from model.studies.robustness_cases import _after, _spikes, links_to_neurons
from model.support.datasets import Dataset
from sim.generators.networks import random_network

ZOO = Path(__file__).parents[3] / "model" / "zoo" / "mnist-paper.npz"


def rng(seed=1):
    return np.random.default_rng(seed)


def small(seed=1, frames=12):
    network = random_network(seed)
    draws = rng(seed)
    images = draws.integers(0, 256, (frames, *network.input_shape), dtype=np.uint8)
    return network, Dataset("noise", images, draws.integers(0, network.classes, frames))


@pytest.mark.parametrize("network", [Network.load(ZOO), random_network(1), random_network(2)], ids=["zoo", "1", "2"])
def test_a_network_cut_at_a_link_is_the_whole(network):
    images = rng().integers(0, 256, (4, *network.input_shape), dtype=np.uint8)
    whole = run_frames(network, images)
    encoded = [encode(network, frame) for frame in images]
    for link in links_to_neurons(network):
        after = _after(network, link)
        found = run_frames(after, _spikes(network, link, encoded))
        assert np.array_equal(found.counts, whole.counts)
        assert np.array_equal(found.potentials, whole.potentials)
        columns = [network.layers.index(network.layer(layer.name)) for layer in after.layers]
        assert np.array_equal(found.spikes, whole.spikes[:, columns])


def test_links_are_what_travels_to_neurons():
    # What goes from neurons into their pool does not travel: both are one core.
    assert links_to_neurons(Network.load(ZOO)) == ["maxpool2d2", "maxpool2d5", "fc1"]


def test_no_disturbance_is_the_plain_evaluation():
    network, data = small()
    found = study(network, data, trials=2, detail=5)
    plain = run_frames(network, data.images)
    assert found.plain.accuracy == (plain.counts.argmax(axis=1) == data.labels).mean()
    assert found.plain.accuracy_potential == (plain.potentials.argmax(axis=1) == data.labels).mean()
    neurons = [isinstance(layer, Neurons) for layer in network.layers]
    assert found.plain.spikes_per_neuron == round(plain.spikes[:, neurons].sum(axis=1).mean() / network.neurons, 4)
    assert found.plain.accumulations_per_frame == round(plain.operations.sum(axis=1).mean())
    assert found.plain.saturated_events_per_frame == round(plain.saturated_events.sum(axis=1).mean(), 4)
    assert found.accuracy_quantized == (quantized_counts(network, data.images).argmax(axis=1) == data.labels).mean()
    untouched = [row for rows in found.tables.values() for row in rows if row.level == 0 or row.name == "brightest"]
    assert len(untouched) == 10
    for row in untouched:
        assert row.figures == found.plain, row.name
        assert row.seeds == []
    quantized = quantized_counts(network, data.images[:5]).argmax(axis=1)
    for row in untouched[1:]:
        assert row.detail_accuracy_quantized == (quantized == data.labels[:5]).mean()


def test_disturbances_are_what_their_lines_say():
    network, data = small()
    tables = study(network, data, trials=2, detail=2).tables
    events = np.mean([len(encode(network, frame)) for frame in data.images])
    rows = {(row.name, row.level): row for row in tables["events"]}
    assert all(row.figures.events_per_frame == round(events, 2) for row in (*tables["order"], *tables["jitter"]))
    assert rows["dropped", 0.4].figures.events_per_frame < events < rows["duplicated", 0.4].figures.events_per_frame
    assert rows["spurious", 0.4].figures.events_per_frame > events
    assert rows["sign flipped", 0.4].figures.events_per_frame == round(events, 2)
    assert len({tuple(seed) for table in tables.values() for row in table for seed in row.seeds}) == 2 * sum(
        bool(row.seeds) for table in tables.values() for row in table
    )
    assert any(row.figures.answers_changed > 0 for row in tables["order"])
    assert any(row.figures.bits_flipped > 0 for row in tables["weights by bit"])
    assert [row.name for row in tables["weights by layer"]] == [la.name for la in network.layers if isinstance(la, Neurons)]
    for table in tables.values():
        for row in table:
            assert row.figures.accuracy_least <= row.figures.accuracy <= row.figures.accuracy_greatest


@pytest.mark.parametrize("seed", [1, 2])
def test_parting_is_what_the_golden_model_says(seed):
    network, data = small(seed, frames=6)
    parting = study(network, data, trials=1, detail=4).parting
    assert parting.frames == 4
    (quantized,) = counts_of_layers(network, data.images[:4])
    owed_spikes = 0
    for order in ("brightest", "raster"):
        events = [reorder(encode(network, f), f, network.input_shape, order, rng()) for f in data.images[:4]]
        traces = [run(network, each) for each in events]
        for row in parting.orders[order]:
            layer = network.layer(row.layer)
            hysteresis, backlog, inherited, differing, total = [], [], [], 0, []
            for index, trace in enumerate(traces):
                state = trace.layers[layer.name]
                arrays = (state.potential, state.count, quantized[layer.name][index])
                for v, q, wanted in zip(*(array.reshape(-1).tolist() for array in arrays), strict=True):
                    active = max(v, 0) if layer.relu else v
                    rounded = abs(active) // layer.theta * (1 if active > 0 else -1)
                    rounded = min(max(rounded, layer.count_limits[0]), layer.count_limits[1])
                    owed = abs(active - q * layer.theta) >= layer.theta
                    hysteresis.append(0 if owed else abs(q - rounded))
                    backlog.append(abs(q - rounded) if owed else 0)
                    inherited.append(abs(rounded - wanted))
                    differing += q != wanted
                    total.append(abs(q - wanted))
            assert row.hysteresis == round(np.mean(hysteresis), 5)
            assert row.backlog == round(np.mean(backlog), 5)
            assert row.inherited == round(np.mean(inherited), 5)
            assert row.difference_mean_absolute == round(np.mean(total), 5)
            assert row.counts_differing == round(differing / len(total), 5)
            spikes = [sign for trace in traces for sign in trace.layers[layer.name].spikes["sign"].tolist()]
            assert row.negative_spikes == round(spikes.count(-1) / max(1, len(spikes)), 4)
            owed_spikes += sum(backlog)
            if layer is network.output:
                answers = [trace.answer for trace in traces]
                assert row.accuracy_after == np.mean(answers == data.labels[:4])
    assert owed_spikes > 0


def test_finer_thresholds_are_the_same_function():
    network, data = small()
    finer = with_finer_thresholds(network, 4)
    for usual, layer in zip(network.layers, finer.layers, strict=True):
        if isinstance(layer, Neurons):
            assert np.array_equal(layer.weights, usual.weights)
            assert layer.threshold_log2 == usual.threshold_log2 - 2 * (layer.name == "conv1")
    # Spikes are worth a quarter: of neurons with a threshold for a weight as large as it, four times as many.
    coarse, fine = (next(counts_of_layers(each, data.images)) for each in (network, finer))
    assert np.array_equal(fine["conv1"] // 4, coarse["conv1"])
    assert (fine["conv1"] % 4 > 0).any()
    # Counts fourfold and bias fourfold is four times the potential.
    events = [encode(network, frame) for frame in data.images]
    quadrupled = {layer.name: layer.bias for layer in finer.layers if isinstance(layer, Neurons)}
    for layer in network.layers[1:]:
        if isinstance(layer, Neurons):
            assert np.array_equal(quadrupled[layer.name], 4 * layer.bias)
    assert run_frames(finer, events).spikes.sum() > run_frames(network, events).spikes.sum()
    # A threshold of less than 1 there is not.
    assert with_finer_thresholds(network, 1 << network.layer("conv1").threshold_log2 + 1) is None


def test_same_seed_same_result():
    network, data = small(frames=8)
    found = study(network, data, trials=2, detail=3)
    assert study(network, data, trials=2, detail=3) == found
    assert study(network, data, trials=2, detail=3, seed=2).tables != found.tables
    # What a line measures does not depend on how many trials follow.
    once = study(network, data, trials=1, detail=3)
    assert once.tables["order"][:5] == found.tables["order"][:5]
    assert once.tables["order"][5].seeds == found.tables["order"][5].seeds[:1]
    assert once.parting == found.parting


def test_lines_say_what_they_are_about():
    """Pages and plots find their lines by these, never by a name."""
    network, data = small(frames=3)
    tables = study(network, data, trials=1, detail=2).tables
    links = links_to_neurons(network)
    assert [(row.change, row.link) for row in tables["links"][::3]] == [
        (change, link) for link in links for change in ("dropped", "duplicated")
    ]
    assert [row.bit for row in tables["weights by bit"]] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert all(row.change is row.link is row.bit is None for name in ("order", "events", "weights") for row in tables[name])
