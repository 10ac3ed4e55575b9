"""Frames for a device: of a data set, digits, or drawn; and what the commands print as JSON."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

from boards.bundled import BUNDLED
from boards.frames import frames_for, labelled_frames
from boards.host import main
from boards.table import main as table
from model.machine.named_plans import named_plan
from model.network import Network
from model.support.datasets import DataError
from sim.generators.networks import random_network
from tests.boards.fake_device import FakeDevice, connected
from tests.boards.test_table import REPORT

NETWORK = random_network(2)
SHAPE = tuple(NETWORK.input_shape)
IMAGES = np.random.default_rng(5).integers(0, 256, (4, *SHAPE), dtype=np.uint8)


@pytest.fixture
def data(tmp_path):
    NETWORK.save(tmp_path / "net.npz")
    np.savez(tmp_path / "data.npz", images=IMAGES, labels=np.arange(4))
    return str(tmp_path / "data.npz")


@pytest.fixture
def host(tmp_path, monkeypatch, data):
    connected(monkeypatch, FakeDevice(NETWORK, named_plan(NETWORK, "minimal")))

    def invoke(command, *args):
        net = [str(tmp_path / "net.npz")] if command in ("load", "selftest", "states", "evaluate") else []
        return CliRunner().invoke(main, [command, "--port", "fake", *net, *map(str, args)])

    return invoke


def test_frames_of_any_shape(data):
    found = frames_for(NETWORK, data, None, 3)
    assert (found.images.tolist(), found.labels.tolist(), found.name) == (IMAGES[:3].tolist(), [0, 1, 2], data)
    found = frames_for(NETWORK, None, None, 3)
    assert (found.images.shape, found.labels, found.name) == ((3, *SHAPE), None, "random frames, seed 0")
    assert found.images.tolist() == frames_for(NETWORK, None, None, None).images[:3].tolist()
    assert len(np.unique(found.images)) > 100
    digits = Network.load(BUNDLED)
    found = frames_for(digits, "digits5k", None, 2)
    assert (found.images.shape, found.labels.shape, found.name) == ((2, 28, 28, 1), (2,), "digits5k")


def test_refusals(data):
    wanted = re.escape(f"frames of digits5k must have the network's input shape {SHAPE}, not (28, 28, 1)")
    with pytest.raises(DataError, match=rf"^{wanted}$"):
        frames_for(NETWORK, "digits5k", None, 1)
    with pytest.raises(DataError, match=rf"^frames must be within 1..4 for {data}, not 5$"):
        frames_for(NETWORK, data, None, 5)
    wanted = re.escape(f"--dataset must be given: no bundled data has frames of {SHAPE}, as random2 takes them")
    with pytest.raises(DataError, match=rf"^{wanted}$"):
        labelled_frames(NETWORK, None, None)


def test_what_a_self_test_compares_is_said(host, data):
    assert host("selftest", "--frames", 2).stdout.splitlines()[0] == "random2 at fake: random frames, seed 0"
    assert host("selftest", "--frames", 2, "--dataset", data).stdout.splitlines()[0] == f"random2 at fake: {data}"
    found = host("selftest", "--frames", 5, "--dataset", data)
    assert (found.exit_code, found.stderr) == (2, f"error: frames must be within 1..4 for {data}, not 5\n")
    found = host("evaluate")
    message = f"error: --dataset must be given: no bundled data has frames of {SHAPE}, as random2 takes them\n"
    assert (found.exit_code, found.stderr) == (2, message)
    found = host("evaluate", "--frames", 5, "--dataset", data)
    assert (found.exit_code, found.stderr) == (2, f"error: --frames must be within 1..4 for {data}, not 5\n")
    found = host("states", "--frame", 4, "--dataset", data)
    assert (found.exit_code, found.stderr) == (2, f"error: --frame must be within 0..3 of {data}, not 4\n")


STATUS_NAMES = {"bad_crc", "bad_command", "bad_length", "timeout", "bytes_lost", "cycles", "saturations"}


def test_json_of_every_command(host, data, tmp_path):
    found = {name: host(name, "--json") for name in ("identify", "status", "reset", "load")}
    found["selftest"] = host("selftest", "--frames", 2, "--json")
    found["states"] = host("states", "--json")
    found["evaluate"] = host("evaluate", "--dataset", data, "--out", tmp_path, "--json")
    said = {}
    for name, result in found.items():
        assert (result.exit_code, result.stderr) == (0, ""), name
        said[name] = json.loads(result.stdout)
    assert said["identify"].keys() >= {"network_hash", "plan_name", "clock_hz", "event_bytes", "watch", "states", "loads"}
    assert said["status"].keys() == STATUS_NAMES
    assert said["reset"] == {"port": "fake", "network_hash": NETWORK.content_hash[:16]}
    assert said["load"] == {"port": "fake", "network": "random2", "words_loaded": 0}
    assert said["selftest"]["passed"] is True
    assert [check["name"] for check in said["selftest"]["checks"]] == ["frames", "cycles", "saturations", "potentials", "wire"]
    assert len(said["states"]["neurons"]) == NETWORK.outputs
    assert (said["evaluate"]["frames"], said["evaluate"]["mismatches"]) == (4, 0)
    assert said["evaluate"].keys() >= {"accuracy", "latency_cycles_mean", "packets_sent_again"}


def test_json_of_the_table(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    (row,) = json.loads(CliRunner().invoke(table, [str(tmp_path), "--json"]).stdout)
    assert (row["luts"], row["luts_available"], row["fmax_mhz"], row["differences"]) == (5167, 5280, [25.45, 26.48], 3)


def test_a_journal_that_is_none(host, data, tmp_path):
    journal = tmp_path / "device.jsonl"
    assert host("evaluate", "--dataset", data, "--out", tmp_path).exit_code == 0
    head, *lines = journal.read_text().splitlines(keepends=True)
    for wrong in ("{}", "[1, 2]", "no JSON", '{"frame": "a", "answer": 0, "counts": [], "cycles": 1}', "[" * 100_000):
        journal.write_text("".join([head, lines[0], wrong + "\n", *lines[1:]]))
        found = host("evaluate", "--dataset", data, "--out", tmp_path)
        message = f"error: {journal}, line 3: must be of an evaluation's journal; --restart begins a new one\n"
        assert (found.exit_code, found.stderr) == (2, message)
    assert host("evaluate", "--dataset", data, "--out", tmp_path, "--restart").exit_code == 0
    (tmp_path / "file").write_text("")
    found = host("evaluate", "--dataset", data, "--out", tmp_path / "file")
    assert found.exit_code == 2
    assert found.stderr == f"error: --out must be a folder, not {str(tmp_path / 'file')!r}\n"
