"""The command that measures the paper's table, figures and claims: what it writes, and what its rows rest on."""

import html
import json
import re
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from model.conversion.quantize import Settings, quantize
from model.engine.engine import run_frames
from model.importers.onnx import import_onnx
from model.paper import main
from model.reports.paper.page import DOCS_TABLES
from model.studies import one_threshold
from model.studies.direct_quantization import run_direct
from model.studies.first_spike_paper import VARIANTS, measure, read_first_spike
from model.studies.paper import binary, direct, measurements, parts, peers, rate_row, rates, study
from model.studies.paper.courses import Course
from model.studies.paper.published import MACS_AS_PRINTED, TABLE_ONE
from model.studies.rate_coded import RateNetwork, convert_rates, run_rates
from model.support.datasets import load

ROOT = Path(__file__).parents[2]
FRAMES = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("paper")


@pytest.fixture(scope="module")
def network(folder):
    """The bundled network with activations 3.2 times as large, so that thresholds of 1.0 and 2.0 suit it."""
    model = onnx.load(ROOT / "model" / "zoo" / "mnist-paper.onnx")
    for tensor in model.graph.initializer:
        if tensor.name == "conv1.weight" or tensor.name.endswith(".bias"):
            values = numpy_helper.to_array(tensor) * np.float32(3.2)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, folder / "larger.onnx")
    return folder / "larger.onnx"


@pytest.fixture(scope="module")
def floats(network):
    return import_onnx(network)


@pytest.fixture(scope="module")
def arguments(folder, network):
    (folder / "docs").mkdir()
    places = "".join(f"<!-- table {name} -->\n<!-- end -->\n" for name in DOCS_TABLES)
    (folder / "docs" / "paper.md").write_text(f"# A page\n{places}The end.\n")
    options = {"--network": network, "--dataset": "digits5k", "--frames": str(FRAMES), "--detail": "5", "--out": folder / "out"}
    options |= {"--cache": folder / "cache", "--docs": folder / "docs"}
    return [str(part) for pair in options.items() for part in pair]


@pytest.fixture(scope="module")
def found(folder, arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "_CALIBRATED", 60)
        patch.setattr(study, "_HELD_OUT", 24)
        patch.setattr(study, "_THRESHOLDS", (1.0, 2.0))
        patch.setattr(study, "_BUNDLED_THRESHOLDS", (0.3, 1.0, 2.0))
        patch.setattr(parts, "_BUDGETS", (0.005,))
        # The adapters have a test of their own.
        patch.setattr(parts, "PEERS", ())
        result = CliRunner().invoke(main, [*arguments, "--json"])
        assert result.exit_code == 0, result.output
        values = json.loads(result.stdout)
        assert values == json.loads((folder / "out" / "paper.json").read_text())
        # A second run takes everything from what was kept, and writes the same.
        written = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        patch.setattr(one_threshold, "run_frames", None)
        patch.setattr(measurements, "run_frames", None)
        patch.setattr(direct, "run_direct", None)
        patch.setattr(measurements, "convert", None)
        patch.setattr(rates, "run_rates", None)
        patch.setattr(parts, "measure", None)
        patch.setattr(rate_row, "rates_of", None)
        patch.setattr(binary, "quantize", None)
        assert CliRunner().invoke(main, arguments).exit_code == 0
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == written
    return values


def test_it_writes_what_it_says(found, folder):
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["paper.html", "paper.json"]
    assert sorted(path.name for path in (folder / "docs" / "img").iterdir()) == [
        f"paper-{name}.svg" for name in ("figure2", "figure3", "figure4", "threshold")
    ]
    assert found["frames"] == FRAMES
    assert found["detail_frames"] == 5
    assert found["calibration"] == {"dataset": "digits5k", "frames": 60, "held_out_frames": 24}


PRINTED = """
thr 1.0   | 2xConv-2xFC | 99.21 % | 98.81 % | 99.19 % | 15k   | 100k | 0.25
thr 2.0   | 2xConv-2xFC | 99.21 % | 96.44 % | 97.26 % | 15k   | 100k | 0.08
[9] 25    | 2xConv-2xFC | 99.21 % |         | 99.18 % | 15k   | 100k | 0.48
[9] 15    | 2xConv-2xFC | 99.21 % |         | 98.80 % | 15k   | 100k | 0.26
[12] conv | 3xConv-2xFC | 98.96 % |         | 98.57 % | 7.7k  | 1.2M | 0.13
[12] fc   | 2xFC        | 98.50 % |         | 98.35 % | 1.4k  | 476k | 0.07
[22]      | 2xFC        | 98.50 % |         | 96.98 % | 1.4k  | 476k | 0.10
[23]      | 2xConv-1xFC | 99.14 % |         | 99.1 %  | 5.1k  | 50k  | 19.25
[9]       |             | 99.44 % |         | 99.44 % | 8k    | 1.2M |
[24]      | 1xConv-1xFC | 98.3 %  |         | 98.32 % | 9.5k  | 88k  |
[25]      | 2xConv-2xFC |         |         | 99.42 % | 20.7k | 0.6M |
[14]      | 2xFC        |         |         | 97.55 % | 1.5k  | 635k |
"""
"""The paper's Table I."""


def test_table_one_is_the_papers(found):
    printed = [[cell.strip() for cell in line.split("|")] for line in PRINTED.strip().splitlines()]
    names = ("key", "model", "ann", "qann", "snn", "neurons", "synapses", "spikes")
    assert [[getattr(row, name) for name in names] for row in TABLE_ONE] == printed
    assert [[row[name] for name in names] for row in found["table_one"]] == printed


def test_rows_of_the_papers_network(found, floats):
    ours = {row["key"]: row["ours"] for row in found["table_one"] if "ours" in row}
    assert list(ours) == ["thr 1.0", "thr 2.0", "[9] 25", "[9] 15", "[12] conv", "[12] fc", "[9]"]
    data, training = load("digits5k", "test"), load("digits5k", "train")
    images, labels = data.images[:FRAMES], data.labels[:FRAMES]
    for key, threshold in (("thr 1.0", 1.0), ("thr 2.0", 2.0)):
        frames = run_frames(quantize(floats, [threshold] * 4, Settings(threshold=threshold), name="x"), images)
        row = ours[key]
        assert row["accuracy_snn"] == (frames.counts.argmax(axis=1) == labels).mean()
        assert row["accumulations_per_frame"] == round(frames.operations.sum(axis=1).mean())
        # Spikes of the pixels, the two convolutions and the two linear layers, not of the pools.
        fired = frames.spikes[:, [0, 2, 4, 5]].sum(axis=1) + frames.input_events
        assert row["spikes_per_neuron"] == pytest.approx(fired.mean() / (784 + 14378), abs=2e-5)
        # With the input's pixels; weights that are shared once.
        assert (row["neurons"], row["synapses"]) == (784 + 14378, 400 + 3200 + 100352 + 2560)
    fired = run_rates(convert_rates(floats, training.images[:60]), images, 15)
    assert ours["[9] 15"]["accuracy_snn"] == round((fired.answers[:, -1] == labels).mean(), 6)
    expected = fired.operations.sum(axis=(1, 2)).mean() + fired.input_operations.mean()
    assert ours["[9] 15"]["accumulations_per_frame"] == round(expected)


def test_weights_as_they_are_work_at_the_papers_thresholds(found):
    ours = {row["key"]: row["ours"] for row in found["table_one"] if "ours" in row}
    assert ours["thr 1.0"]["accuracy_snn"] > 0.9
    assert ours["thr 2.0"]["spikes_per_neuron"] < ours["thr 1.0"]["spikes_per_neuron"]


def test_rows_of_12_have_the_remedy_that_is_best_on_held_out_digits(found):
    assert [(each["shape"], each["remedy"]) for each in found["remedies"]] == [
        (shape, remedy)
        for shape in ("3xConv-2xFC", "2xFC")
        for remedy in ("base model", "dynamic threshold", "clamped activations")
    ]
    ours = {row["key"]: row["ours"] for row in found["table_one"] if "ours" in row}
    for key, shape in (("[12] conv", "3xConv-2xFC"), ("[12] fc", "2xFC")):
        of_shape = [each for each in found["remedies"] if each["shape"] == shape]
        [chosen] = [each for each in of_shape if each["chosen"]]
        assert chosen["accuracy_held_out"] == max(each["accuracy_held_out"] for each in of_shape)
        assert ours[key]["setting"] == chosen["remedy"]
        # The variants are measured on as many frames as are looked at one by one, the row on all.
        assert chosen["accuracy"] in (0, 0.2, 0.4, 0.6, 0.8, 1)
        [variant] = [each for each in VARIANTS if (each.shape, each.remedy) == (shape, chosen["remedy"])]
        all_frames = measure(variant.read(peers.PAPER_ZOO), load("digits5k", "test").limited(FRAMES))
        assert ours[key]["accuracy_snn"] == all_frames.accuracy
        assert ours[key]["spikes_per_neuron"] == all_frames.spikes_per_neuron
        assert ours[key]["spikes_per_neuron_whole"] == all_frames.spikes_per_neuron_without_end > all_frames.spikes_per_neuron


def test_row_of_9_is_the_rate_code_on_the_network_of_12(found):
    [ours] = [row["ours"] for row in found["table_one"] if row["key"] == "[9]"]
    assert (ours["network"], ours["neurons"], ours["synapses"]) == ("first-spike-convolutional.npz", 7706, 1_192_576)
    steps = int(re.fullmatch(r"the network of \[12\], (\d+) steps", ours["setting"])[1])
    spiking = read_first_spike(peers.PAPER_ZOO / ours["network"], clamped=False, waits=False).spiking
    network = RateNetwork(
        input_shape=spiking.input_shape, stages=spiking.stages, scales=spiking.scales, input_threshold=None
    )
    data = load("digits5k", "test").limited(FRAMES)
    frames = run_rates(network, data.images, steps)
    assert ours["accuracy_snn"] == round((frames.answers[:, -1] == data.labels).mean(), 6)
    # Pixels are currents, and count as neurons.
    assert ours["spikes_per_neuron"] == pytest.approx(frames.spikes.sum(axis=(1, 2)).mean() / 7706, abs=2e-5)


def test_fewest_steps():
    rates_found = SimpleNamespace(steps=[1, 2, 3, 4], accuracy=[0.2, 0.9, 0.8, 0.95])
    for accuracy, steps in ((0.1, 1), (0.2, 1), (0.85, 2), (0.9, 2), (0.91, 4), (0.99, 4)):
        assert rate_row.fewest_steps(SimpleNamespace(accuracy_ann=accuracy, rates=rates_found)) == steps


def test_further_rows(found):
    factors = found["factors"]
    assert [(row["method"], row["network"], row["setting"]) for row in found["rows"]] == [
        ("sigma-delta", "mnist-paper", f"threshold 1.0, scaled by {factors['accumulations']:g}"),
        ("sigma-delta", "mnist-paper", f"threshold 2.0, scaled by {factors['accumulations']:g}"),
        ("sigma-delta", "mnist-paper", f"threshold 1.0, scaled by {factors['spikes']:g}"),
        ("sigma-delta", "mnist-paper", "a threshold for each layer (the bundled conversion)"),
        ("sigma-delta", "mnist-paper", "fine-tuned for few events (mnist-sparse)"),
        ("deferred", "mnist-paper", "deferred firing, budget 0.5%"),
        ("deferred", "mnist-paper", "deferred firing, fine-tuned (mnist-deferred)"),
        *(("rate", "larger", f"{steps} time steps, {key} input") for key in ("grey", "1-bit") for steps in (15, 25)),
        *(
            ("first spike", name, f"pixels are {key}, grey")
            for name in ("mnist-paper", "mnist-two-layer")
            for key in ("currents", "spikes")
        ),
    ]
    for row in found["rows"]:
        if "threshold 2.0" not in row["setting"]:
            assert row["accuracy"] > 0.85, row["setting"]


def test_claims_rest_on_what_was_measured(found, floats):
    data = load("digits5k", "test")
    images, labels = data.images[:FRAMES], data.labels[:FRAMES]
    for without, threshold in zip(found["direct"], (1.0, 2.0), strict=True):
        frames = run_direct(quantize(floats, [threshold] * 4, Settings(threshold=threshold), name="x"), images)
        assert without["threshold"] == threshold
        assert without["accuracy"] == (frames.counts.argmax(axis=1) == labels).mean()
        assert without["spikes_per_neuron"] == round(frames.spikes[:, [0, 2, 4, 5]].sum(axis=1).mean() / 14378, 5)
    assert found["unreset"]["frames"] == 5
    assert found["unreset"]["neurons"] == 5 * 14378
    assert found["unreset"]["different"] == 0 < found["unreset"]["fired_often"]
    assert found["counting"]["connections"] == 1_043_712
    assert MACS_AS_PRINTED == 455_712
    courses = [course["label"] for course in found["courses"]]
    assert courses == ["threshold 1.0", "threshold 2.0", "fine-tuned"]
    for course in found["courses"]:
        assert set(course) == {field.name for field in fields(Course)}
        assert course["spikes_per_neuron"] == sorted(course["spikes_per_neuron"])
    ours = {row["key"]: row["ours"] for row in found["table_one"] if "ours" in row}
    assert found["courses"][0]["accuracy"][-1] == pytest.approx(ours["thr 1.0"]["accuracy_snn"], abs=1e-6)
    [at_one] = [point for point in found["thresholds"] if point["threshold"] == 1]
    assert found["courses"][0]["spikes_per_neuron"][-1] == pytest.approx(at_one["spikes_per_neuron"], abs=2e-5)
    assert found["look"]["label"] == labels[0]
    assert [raster["layer"] for raster in found["look"]["layers"]] == ["input", "conv1", "conv2", "fc1", "fc2"]


def test_reasons(found):
    for by_step in found["rates"].values():
        assert by_step["steps"] == list(range(1, 26))
        for key in ("accuracy", "spikes_per_neuron", "accumulations_per_frame"):
            assert len(by_step[key]) == 25
        assert by_step["accumulations_per_frame"] == sorted(by_step["accumulations_per_frame"])
    for why in found["why"].values():
        assert [layer["layer"] for layer in why["layers"]] == ["conv1", "conv2", "fc1", "fc2"]
        assert why["steps"][-1]["cause"] == "saturation"
    one, two = (found["why"][f"threshold {at}"]["layers"] for at in ("1.0", "2.0"))
    for at_one, at_two in zip(one, two, strict=True):
        assert at_one["threshold"] == pytest.approx(1, rel=0.02)
        assert at_two["threshold"] == pytest.approx(2, rel=0.02)
        assert at_two["spikes_per_frame"] < at_one["spikes_per_frame"]
    assert [row["layer"] for row in found["why_first_spike"]] == ["conv1", "conv2", "fc1", "fc2"]
    # The first layer's currents are there from the start: its times are the inverses of its activations.
    assert found["why_first_spike"][0]["fired_of_active"] > 0.99
    assert found["why_first_spike"][0]["fired_of_silent"] == 0
    assert found["why_first_spike"][0]["correlation"] > 0.999
    assert found["why_first_spike"][1]["fired_of_silent"] > 0


def test_page_loads_nothing_and_shows_the_figures(found, folder):
    text = (folder / "out" / "paper.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', text)
    assert len(sources) == 4
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    for row in found["rows"]:
        assert f"<td class=words>{row['setting']}</td>" in html.unescape(text)
        assert f"<td>{row['accumulations_per_frame']:,.0f}</td>" in text
    for row in found["table_one"]:
        setting = row.get("ours", {}).get("setting")
        title = f"{row['title']} (ours: {setting})" if setting else row["title"]
        assert f"<td class=words>{title}</td>" in html.unescape(text)


def test_documentation_gets_the_tables(found, folder):
    text = (folder / "docs" / "paper.md").read_text()
    [one] = re.findall(r"^\| this work, threshold 1\.0 \|.*$", text, re.MULTILINE)
    ours = found["table_one"][0]["ours"]
    for cell in ("99.19 %", f"{100 * ours['accuracy_snn']:.2f} %", f"{ours['spikes_per_neuron']:.4f}", "15,162", "100k"):
        assert f" {cell} |" in one
    places = dict(re.findall("<!-- table (.*?) -->(.*?)<!-- end -->", text, re.DOTALL))
    assert list(places) == list(DOCS_TABLES)
    in_words = {"found", "notes", "gaps", "spikes", "operations"}
    assert {name for name, place in places.items() if "\n|---|" not in place} == in_words
    by_threshold = {point["threshold"]: point for point in found["thresholds"]}
    opening = re.findall("^- (.*)", places["found"], re.MULTILINE)
    assert len(opening) == 5
    for key, threshold in (("thr 1.0", 1.0), ("thr 2.0", 2.0)):
        [row] = [row for row in found["table_one"] if row["key"] == key]
        point = by_threshold[threshold]
        for figure in (f"{100 * point['accuracy']:.2f} %", f"{point['spikes_per_neuron']:.4f}", row["snn"], row["spikes"]):
            assert figure in opening[0]
        assert f"{row['ours']['spikes_per_neuron']:.4f}" in opening[0]
        if row["ours"]["accuracy_snn"] < float(row["snn"].removesuffix(" %")) / 100 - 0.003:
            assert f"- *{row['title']}*: {100 * row['ours']['accuracy_snn']:.2f} %" in places["gaps"]
        if row["ours"]["accuracy_qann"] < float(row["qann"].removesuffix(" %")) / 100 - 0.003:
            assert f"- *{row['title']}, quantized*: {100 * row['ours']['accuracy_qann']:.2f} %" in places["gaps"]
    assert "this work" in places["gaps"]
    assert f"{by_threshold[1.0]['accumulations_per_frame']:,} accumulations" in opening[1]
    times = " and ".join(
        f"{each['spikes_per_neuron'] / by_threshold[each['threshold']]['spikes_per_neuron']:.1f}" for each in found["direct"]
    )
    assert f"fires {times} times" in opening[3]
    sparse = next(row for row in found["rows"] if "mnist-sparse" in row["setting"])
    assert f"{100 * sparse['accuracy']:.2f} % with {sparse['spikes_per_neuron']:.4f} and" in opening[4]
    for figure in ("911,424", "2,087,424", "455,712", "911K", "455K"):
        assert figure in places["operations"]
    for row in found["table_one"]:
        if whole := row.get("ours", {}).get("spikes_per_neuron_whole"):
            assert f"{row['model']} {whole:.4f}" in places["notes"]


def test_claims_say_whether_they_hold(found, folder):
    text = (folder / "docs" / "paper.md").read_text()
    claims = text[text.index("<!-- table claims -->") :]
    lines = [line.split(" | ") for line in claims[: claims.index("<!-- end -->")].splitlines() if line.startswith("| ")][1:]
    holds = {claim.removeprefix("| "): verdict.removesuffix(" |") for claim, _, verdict in lines}
    assert len(holds) == 9
    assert holds["Any module of a network converts (conclusion)"] == "in part"
    assert holds["Potentials are reset only by a new frame (footnote 3)"] == "yes"
    assert holds["The float network needs 455,712 multiply-accumulates (footnote 10)"] == "no"
    fired = {point["threshold"]: point["spikes_per_neuron"] for point in found["thresholds"]}
    more = all(each["spikes_per_neuron"] > fired[each["threshold"]] for each in found["direct"])
    assert holds["Direct quantization fires more than hysteresis (section II)"] == ("yes" if more else "no")
    assert more


def test_peers_name_rows_and_files_that_are_there():
    keys = [row.key for row in TABLE_ONE]
    assert len({peer.key for peer in peers.PEERS}) == len(peers.PEERS)
    for peer in peers.PEERS:
        assert peer.key in keys
        assert peer.file == peers.PAPER_ZOO / f"{peer.network}.npz"
        assert peer.file.is_file()


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.key)
def test_peers_are_measured_on_a_few_digits(peer):
    data = load("digits5k", "test").limited(4)
    finished = []
    ours = peer.measured(peer.network, data, finished.append)
    assert sum(finished) == 4
    assert ours.accuracy_snn in (0.75, 1)
    assert ours.network == peer.file.name
    sizes = {
        "[22]": (1394, 476_400), "[23]": (14_554, 29_740), "[24]": (9506, 88_002), "[25]": (20_694, 606_375),
        "[14]": (1594, 635_200),
    }  # fmt: skip
    assert (ours.neurons, ours.synapses) == sizes[peer.key]
    assert 0 < ours.spikes_per_neuron < 25
    assert (ours.spikes_per_neuron_whole is not None) == (peer.key in ("[22]", "[14]"))
    assert (ours.accuracy_counted is not None) == (peer.key == "[24]")
    assert peer.source.startswith("model.studies.")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--dataset", "frames.npz"],
            "frames of frames.npz must have the networks' input shape (28, 28, 1), not (5, 4, 1)",
        ),
        (["--dataset", "few.npz"], "few.npz: training must have at least 12 frames, not 11"),
        (["--dataset", "missing.npz"], "missing.npz: dataset must be an existing .npz file"),
        (["--dataset", "dogs"], "dataset must be 'mnist', 'digits5k', 'cifar10' or the path of an .npz file, not 'dogs'"),
        (["--dataset", "digits5k", "--out", "file"], "--out must be a folder, not 'file'"),
        (
            ["--network", "none.onnx"],
            "--network must be an ONNX file that is there, not 'none.onnx': python -m model.paper_networks paper-sgd trains one",
        ),
        (
            ["--dataset", "digits5k", "--docs", "empty"],
            "--docs must be a folder with a page paper.md, not 'empty': No such file or directory",
        ),
        (
            ["--dataset", "digits5k", "--docs", "other"],
            "other/paper.md: the page must have one <!-- table found --> with <!-- end --> after it, not 0",
        ),
        (
            ["--dataset", "digits5k", "--docs", "page"],
            "--docs must be a folder, not 'page/img'",
        ),
        (
            ["--dataset", "digits5k", "--network", "mnist-paper.onnx"],
            "network must have another name than the bundled mnist-paper.onnx, not 'mnist-paper.onnx'",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, line, network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("frames.npz", images=np.zeros((12, 5, 4, 1), np.uint8), labels=np.zeros(12, np.int64))
    np.savez("few.npz", images=np.zeros((11, 28, 28, 1), np.uint8), labels=np.zeros(11, np.int64))
    Path("file").write_text("")
    Path("empty").mkdir()
    Path("other").mkdir()
    Path("page").mkdir()
    Path("page/img").write_text("")
    Path("page/paper.md").write_text("".join(f"<!-- table {name} -->\n<!-- end -->\n" for name in DOCS_TABLES))
    Path("mnist-paper.onnx").write_bytes(network.read_bytes())
    Path("other/paper.md").write_text("# Another page\n")
    result = CliRunner().invoke(main, ["--network", str(network), *arguments])
    assert result.exit_code == 2
    assert result.stderr.strip() == f"error: {line}"
    assert [path for path in tmp_path.rglob("paper.*") if path.name != "paper.md"] == []
