"""Each disturbance on a few events, and the study that puts them together."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from model.conversion.quantized import counts_of_layers, quantized_counts
from model.encode import encode
from model.engine.engine import run_frames
from model.events import make_events
from model.golden import run
from model.network import Network, Neurons, Shape
from model.robustness import (
    ORDERS,
    _behind,
    _links,
    _print,
    _spikes,
    _with_finer_thresholds,
    drop,
    duplicate,
    flip_bits,
    flip_signs,
    insert_spurious,
    jitter,
    main,
    reorder,
    study,
)
from model.support.datasets import Dataset
from tests.hardware import random_network

ZOO = Path(__file__).parents[2] / "model" / "zoo" / "mnist-paper.npz"

SHAPE = Shape(2, 3, 2)
FRAME = np.array([[[90, 0], [70, 90], [200, 70]], [[0, 255], [90, 0], [70, 200]]], np.uint8)
"""Of its addresses 0, 2, 3, 4, 5, 7, 8, 10 and 11 fire, with three pairs and triples of equal pixels."""

MANY = make_events(np.arange(1000) % 784, np.where(np.arange(1000) % 7 == 0, -1, 1))


def rng(seed=1):
    return np.random.default_rng(seed)


def fired():
    return make_events([7, 4, 11, 0, 3, 8, 2, 5, 10])


@pytest.mark.parametrize(
    ("order", "addresses"),
    [
        ("brightest", [7, 4, 11, 0, 3, 8, 2, 5, 10]),
        # Equal pixels stand in raster order here too: not simply the other backwards.
        ("darkest", [2, 5, 10, 0, 3, 8, 4, 11, 7]),
        ("raster", [0, 2, 3, 4, 5, 7, 8, 10, 11]),
        ("reverse raster", [11, 10, 8, 7, 5, 4, 3, 2, 0]),
        # Columns 0 (0 above 7), 1 (2, 3 above 8), 2 (4, 5 above 10, 11).
        ("columns", [0, 7, 2, 3, 8, 4, 5, 10, 11]),
    ],
)
def test_orders(order, addresses):
    found = reorder(fired(), FRAME, SHAPE, order, rng())
    assert found["address"].tolist() == addresses
    assert found.tolist() == make_events(addresses).tolist()


def test_brightest_first_is_the_encoder():
    network = Network.load(ZOO)
    for frame in rng().integers(0, 256, (20, 28, 28, 1), dtype=np.uint8):
        events = encode(network, frame)
        assert np.array_equal(reorder(events, frame, network.input_shape, "brightest", rng()), events)


def test_every_order_has_the_same_events():
    for order in ORDERS:
        for seed in range(5):
            assert sorted(reorder(fired(), FRAME, SHAPE, order, rng(seed))["address"]) == [0, 2, 3, 4, 5, 7, 8, 10, 11]
    orders = {tuple(reorder(fired(), FRAME, SHAPE, "random", rng(seed))["address"].tolist()) for seed in (1, 1, 2, 3)}
    assert len(orders) == 3


def test_unknown_order():
    with pytest.raises(ValueError, match=r"^order must be one of brightest, darkest, raster, reverse raster, columns, random, "
                                         r"not 'spiral'$"):
        reorder(fired(), FRAME, SHAPE, "spiral", rng())


def test_dropped():
    found = drop(MANY, 0.2, rng())
    kept = rng().random(1000) >= 0.2
    assert len(found) == kept.sum() == 812
    assert found["address"].tolist() == MANY["address"][kept].tolist()
    assert found["sign"].tolist() == MANY["sign"][kept].tolist()
    # What is left is a frame of its own: events name themselves as their origin.
    assert found["origin"].tolist() == found["cause"].tolist() == list(range(812))
    assert len(drop(MANY, 1, rng())) == 0


def test_duplicated():
    found = duplicate(MANY, 0.2, rng())
    twice = rng().random(1000) < 0.2
    pairs = MANY[["address", "sign"]].tolist()
    expected = [event for pair, two in zip(pairs, twice, strict=True) for event in [pair] * (1 + two)]
    assert found[["address", "sign"]].tolist() == expected
    assert len(found) == 1188
    assert len(duplicate(MANY, 1, rng())) == 2000


def test_spurious():
    found = insert_spurious(MANY, 0.2, 784, rng())
    assert len(found) == 1000 + rng().binomial(1000, 0.2)
    assert found["address"].min() >= 0 and found["address"].max() < 784
    # The events themselves are still there, in their order, and what came with them is positive.
    left = iter(found[["address", "sign"]].tolist())
    assert all(event in left for event in MANY[["address", "sign"]].tolist())
    assert (found["sign"] < 0).sum() == (MANY["sign"] < 0).sum()


def test_signs_flipped():
    found = flip_signs(MANY, 0.2, rng())
    assert found["address"].tolist() == MANY["address"].tolist()
    flipped = found["sign"] != MANY["sign"]
    assert flipped.tolist() == (rng().random(1000) < 0.2).tolist()
    assert flipped.sum() == 188
    # Both ways.
    assert set(found["sign"][flipped].tolist()) == {-1, 1}
    assert np.array_equal(flip_signs(found, 0.2, rng()), MANY)


@pytest.mark.parametrize("window", [0, 1, 2, 8, 100])
def test_jitter_moves_less_than_its_window(window):
    places = make_events(np.arange(500))
    moved = jitter(places, window, rng())["address"] - np.arange(500)
    assert sorted(jitter(places, window, rng())["address"]) == list(range(500))
    assert np.abs(moved).max() <= max(0, window - 1)
    if window > 1:
        assert np.abs(moved).max() >= window / 2


@pytest.mark.parametrize("change", [drop, duplicate, flip_signs, lambda e, s, g: insert_spurious(e, s, 784, g)])
def test_no_disturbance_and_no_events(change):
    assert np.array_equal(change(MANY, 0.0, rng()), MANY)
    assert len(change(make_events([]), 0.5, rng())) == 0


@pytest.mark.parametrize("width", [1, 3, 8, 16])
@pytest.mark.parametrize("chosen", ["all", "top", "lowest"])
def test_bits_flipped(width, chosen):
    bits = {"all": range(width), "top": [width - 1], "lowest": [0]}[chosen]
    low, high = -(1 << width - 1), (1 << width - 1) - 1
    weights = rng(2).integers(low, high + 1, (40, 50)).astype(np.int32)
    allowed = sum(1 << bit for bit in bits)
    assert np.array_equal(flip_bits(weights, width, bits, 0, rng()), weights)
    for probability in (0.1, 1):
        found = flip_bits(weights, width, bits, probability, rng())
        assert low <= found.min() and found.max() <= high
        differing = (found ^ weights) & ((1 << width) - 1)
        assert not (differing & ~allowed).any()
        # One draw a bit, lowest first: exactly these.
        draws = rng()
        expected = sum((draws.random(weights.shape) < probability).astype(np.int32) << bit for bit in bits)
        assert np.array_equal(differing, expected)
        assert differing.any()


def test_twos_complement():
    weights = np.array([[-128, -1, 0, 127]], np.int32)
    assert flip_bits(weights, 8, [7], 1, rng()).tolist() == [[0, 127, -128, -1]]
    assert flip_bits(weights, 8, [0, 1], 1, rng()).tolist() == [[-125, -4, 3, 124]]


def test_unknown_bit():
    with pytest.raises(ValueError, match=r"^bit must be within 0..7, not 8$"):
        flip_bits(np.zeros((1, 1), np.int32), 8, [8], 0.5, rng())


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
    for link in _links(network):
        behind = _behind(network, link)
        found = run_frames(behind, _spikes(network, link, encoded))
        assert np.array_equal(found.counts, whole.counts)
        assert np.array_equal(found.potentials, whole.potentials)
        columns = [network.layers.index(network.layer(layer.name)) for layer in behind.layers]
        assert np.array_equal(found.spikes, whole.spikes[:, columns])


def test_links_are_what_travels_to_neurons():
    # What goes from neurons into their pool does not travel: both are one core.
    assert _links(Network.load(ZOO)) == ["maxpool2d2", "maxpool2d5", "fc1"]


def test_no_disturbance_is_the_plain_evaluation():
    network, data = small()
    found = study(network, data, trials=2, detail=5)
    plain = run_frames(network, data.images)
    assert found["plain"]["accuracy"] == (plain.counts.argmax(axis=1) == data.labels).mean()
    assert found["plain"]["accuracy_potential"] == (plain.potentials.argmax(axis=1) == data.labels).mean()
    neurons = [isinstance(layer, Neurons) for layer in network.layers]
    assert found["plain"]["spikes_per_neuron"] == round(plain.spikes[:, neurons].sum(axis=1).mean() / network.neurons, 4)
    assert found["plain"]["accumulations_per_frame"] == round(plain.operations.sum(axis=1).mean())
    assert found["plain"]["saturated_events_per_frame"] == round(plain.saturated_events.sum(axis=1).mean(), 4)
    assert found["accuracy_quantized"] == (quantized_counts(network, data.images).argmax(axis=1) == data.labels).mean()
    untouched = [row for rows in found["tables"].values() for row in rows if row["level"] == 0 or row["name"] == "brightest"]
    assert len(untouched) == 10
    for row in untouched:
        assert {key: row[key] for key in found["plain"]} == found["plain"], row["name"]
        assert row["seeds"] == []
    quantized = quantized_counts(network, data.images[:5]).argmax(axis=1)
    for row in untouched[1:]:
        assert row["detail_accuracy_quantized"] == (quantized == data.labels[:5]).mean()


def test_disturbances_are_what_their_lines_say():
    network, data = small()
    tables = study(network, data, trials=2, detail=2)["tables"]
    events = np.mean([len(encode(network, frame)) for frame in data.images])
    rows = {(row["name"], row["level"]): row for row in tables["events"]}
    assert all(row["events_per_frame"] == round(events, 2) for row in (*tables["order"], *tables["jitter"]))
    assert rows["dropped", 0.4]["events_per_frame"] < events < rows["duplicated", 0.4]["events_per_frame"]
    assert rows["spurious", 0.4]["events_per_frame"] > events
    assert rows["sign flipped", 0.4]["events_per_frame"] == round(events, 2)
    assert len({tuple(seed) for table in tables.values() for row in table for seed in row["seeds"]}) == 2 * sum(
        bool(row["seeds"]) for table in tables.values() for row in table
    )
    assert any(row["answers_changed"] > 0 for row in tables["order"])
    assert any(row["bits_flipped"] > 0 for row in tables["weights by bit"])
    assert [row["name"] for row in tables["weights by layer"]] == [la.name for la in network.layers if isinstance(la, Neurons)]
    for table in tables.values():
        for row in table:
            assert row["accuracy_least"] <= row["accuracy"] <= row["accuracy_greatest"]


@pytest.mark.parametrize("seed", [1, 2])
def test_parting_is_what_the_golden_model_says(seed):
    network, data = small(seed, frames=6)
    parting = study(network, data, trials=1, detail=4)["parting"]
    assert parting["frames"] == 4
    (quantized,) = counts_of_layers(network, data.images[:4])
    owed_spikes = 0
    for order in ("brightest", "raster"):
        events = [reorder(encode(network, f), f, network.input_shape, order, rng()) for f in data.images[:4]]
        traces = [run(network, each) for each in events]
        for row in parting["orders"][order]:
            layer = network.layer(row["layer"])
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
            assert row["hysteresis"] == round(np.mean(hysteresis), 5)
            assert row["backlog"] == round(np.mean(backlog), 5)
            assert row["inherited"] == round(np.mean(inherited), 5)
            assert row["difference_mean_absolute"] == round(np.mean(total), 5)
            assert row["counts_differing"] == round(differing / len(total), 5)
            spikes = [sign for trace in traces for sign in trace.layers[layer.name].spikes["sign"].tolist()]
            assert row["negative_spikes"] == round(spikes.count(-1) / max(1, len(spikes)), 4)
            owed_spikes += sum(backlog)
            if layer is network.output:
                answers = [trace.answer for trace in traces]
                assert row["accuracy_behind"] == np.mean(answers == data.labels[:4])
    assert owed_spikes > 0


def test_finer_thresholds_are_the_same_function():
    network, data = small()
    finer = _with_finer_thresholds(network, 4)
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
    assert _with_finer_thresholds(network, 1 << network.layer("conv1").threshold_log2 + 1) is None


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.sources, self.cells = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.cells.append(data.replace("\u00a0", " "))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robustness")
    network, data = small()
    network.save(folder / "net.npz")
    np.savez(folder / "frames.npz", images=data.images, labels=data.labels)
    arguments = [str(folder / "net.npz"), "--dataset", str(folder / "frames.npz"), "--limit", "8", "--trials", "2"]
    arguments += ["--detail", "3", "--out", str(folder / "out"), "--docs", str(folder / "img"), "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout == (folder / "out" / "robustness.json").read_text()
    return folder, json.loads(result.stdout)


def test_command_writes_what_it_says(written, capsys):
    folder, found = written
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["robustness.html", "robustness.json"]
    drawn = sorted((folder / "img").iterdir())
    names = ("events", "order", "parting", "thresholds", "weights")
    assert [path.name for path in drawn] == [f"robustness-{name}.svg" for name in names]
    assert all(path.read_text().startswith("<?xml") for path in drawn)
    assert (found["frames"], found["seed"], found["trials"], found["detail"]) == (8, 1, 2, 3)
    assert found["dataset"] == f"{folder / 'frames.npz'} (first 8 frames)"
    page = Page((folder / "out" / "robustness.html").read_text())
    assert len(page.sources) == 5
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    _print(found)
    printed = capsys.readouterr().out
    for cell in ("reverse raster", "all but the top two", f"{found['tables']['order'][2]['accuracy']:.2%}"):
        assert any(cell in text for text in page.cells), cell
        assert cell in printed, cell


def test_same_seed_same_result(written):
    _, found = written
    network, data = small()
    data = Dataset(found["dataset"], data.images[:8], data.labels[:8])
    assert json.dumps(study(network, data, trials=2, detail=3)) == json.dumps(found)
    assert study(network, data, trials=2, detail=3, seed=2)["tables"] != found["tables"]
    # What a line measures does not depend on how many trials follow.
    once = study(network, data, trials=1, detail=3)
    assert once["tables"]["order"][:5] == found["tables"]["order"][:5]
    assert once["tables"]["order"][5]["seeds"] == found["tables"]["order"][5]["seeds"][:1]
    assert once["parting"] == found["parting"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["missing.npz"], "missing.npz: cannot be read: No such file or directory"),
        ([str(ZOO), "--dataset", "mnisty"], "dataset must be 'mnist', 'digits5k' or the path of an .npz file, not 'mnisty'"),
        (
            [str(ZOO), "--dataset", "frames.npz"],
            "frames of frames.npz must have the network's input shape (28, 28, 1), not (5, 4, 1)",
        ),
        ([str(ZOO), "--dataset", "digits5k", "--out", "frames.npz"], "frames.npz: cannot be written: File exists"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("frames.npz", images=np.zeros((3, 5, 4, 1), np.uint8), labels=np.zeros(3, np.int64))
    result = CliRunner().invoke(main, ["--out", "out", *arguments])
    assert result.exit_code == 2
    assert result.stderr.strip() == f"error: {line}"
    assert [path.name for path in Path().iterdir()] == ["frames.npz"]


@pytest.mark.parametrize("option", ["--limit", "--trials", "--detail"])
def test_numbers_out_of_range(option):
    result = CliRunner().invoke(main, [str(ZOO), option, "0"])
    assert result.exit_code == 2
    assert f"Error: Invalid value for '{option}': 0 is not in the range x>=1." in result.stderr
