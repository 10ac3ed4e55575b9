"""The steps of a build: nothing half-made left, and a whole small one down to the bitstream."""

import errno
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout
from rich.console import Console

from boards.bitstream import Options, build
from boards.bundled import BUNDLED
from boards.definitions import BOARDS, board_named
from hw.flow.area import memories
from hw.link.flash import flash_image
from model.machine.named_plans import named_plan
from model.network import Network
from model.support.errors import DoesNotFitError, TimingError
from model.support.steps import Steps
from sim.generators.networks import random_linear, random_network
from tests.onnx_graphs import Graph


def small_options(tmp_path, network):
    network.save(tmp_path / "net.npz")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, *network.input_shape), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.zeros(4, int))
    return Options(
        net=tmp_path / "net.npz",
        plan="minimal",
        dataset=str(tmp_path / "data.npz"),
        out=tmp_path / "out",
        frequency_mhz=50,
    )


def test_verilog_only_is_the_same_every_time(tmp_path):
    options = replace(small_options(tmp_path, random_network(1)), verilog_only=True)
    texts = []
    for _ in range(2):
        report = build(options, Console(quiet=True))
        texts.append([Path(path).read_text() for path in report["verilog"]])
    assert texts[0] == texts[1]
    assert all("module machine(" in text or "module system(" in text for text in texts[0])


def test_a_conversion_says_what_it_lost(tmp_path):
    graph = Graph(seed=2).conv(2, 2, 3).add("Relu").add("Flatten").linear(2 * 36, 3)
    graph.save(tmp_path / "net.onnx")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 2, (40, 8, 8, 2)), np.arange(40) % 3
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    told = io.StringIO()
    options = Options(
        net=tmp_path / "net.onnx",
        plan="minimal",
        dataset=str(tmp_path / "data.npz"),
        out=tmp_path / "out",
        verilog_only=True,
    )
    conversion = build(options, Console(file=told))["conversion"]
    lines = told.getvalue().splitlines()
    assert f"note: {tmp_path / 'data.npz'}: pixels are 0 or 1: 1 is taken as full scale" in lines
    assert f"   {conversion['summary']}" in lines
    assert f"   {conversion['verdict']}" in lines
    for step in conversion["steps"]:
        assert any(line.startswith(f"   {step['cause']}") and f"{step['accuracy']:.2%}" in line for line in lines)
    # Labels that have nothing to do with the frames.
    (warning,) = conversion["warnings"]
    assert ", no better than always answering class 0 (35.0%): " in warning
    assert f"warning: {warning}" in lines


def test_what_the_host_can_do_besides_is_asked_for(tmp_path):
    layer = random_linear(1, inputs=6, outputs=3, activation="identity")
    network = Network(name="one", input_shape=(2, 3, 1), layers=(layer,))
    options = replace(small_options(tmp_path, network), verilog_only=True)

    def ports(**asked):
        machine, _ = build(replace(options, **asked), Console(quiet=True))["verilog"]
        head = Path(machine).read_text().split("module machine(")[1].split(";")[0]
        return "watched__valid" in head, "states__ask" in head

    assert ports() == (True, True)
    assert ports(watch=False, states=False) == (False, False)
    assert ports(plan="default", states=True) == (True, True)


@pytest.mark.full
def test_a_small_network_down_to_the_bitstream_and_a_second_run_from_the_cache(tmp_path):
    options = small_options(tmp_path, random_network(1))
    report = build(options, Console(quiet=True))
    assert (report["mismatches"], report["dsp"], report["frames_verified"]) == (0, 0, 4)
    assert report["fmax_mhz"] >= 50
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(report))
    bitstream = (tmp_path / "out" / "random1-ulx3s-85f.bit").read_bytes()
    assert b"LFE5U-85F" in bitstream[:200] or len(bitstream) > 10_000
    again = build(options, Console(quiet=True))
    assert again == report
    assert (tmp_path / "out" / "random1-ulx3s-85f.bit").read_bytes() == bitstream
    # What fails leaves nothing behind that looks like a result.
    with pytest.raises(TimingError, match=r"^timing is not met: [\d.]+ MHz after routing, below 400 MHz, with seed 1; see .*"):
        build(replace(options, frequency_mhz=400), Console(quiet=True))
    assert not (tmp_path / "out" / "report.json").exists()
    assert not list((tmp_path / "out").glob("*.bit"))


@pytest.mark.full
def test_the_whole_mnist_network_on_the_smallest_board(tmp_path):
    report = build(Options(board="icebreaker", out=tmp_path), Console(quiet=True))
    assert (report["network"], report["plan"]) == ("mnist-sparse", "folded")
    assert (report["mismatches"], report["cycle_mismatches"]) == (0, 0)
    assert {layer["weight_bits"] for layer in report["layers"] if layer["weights"]} == {8}
    assert sum(layer["weights"] for layer in report["layers"]) == 106_512
    assert report["fmax_mhz"] >= report["clock_mhz"] == 24
    assert report["frames_per_second"] >= 120
    assert (report["dsp"], report["utilization"]["ICESTORM_SPRAM"][0]) == (0, 4)
    assert 50_000 < (tmp_path / "mnist-sparse-icebreaker.bin").stat().st_size <= board_named("icebreaker").flash_addr
    network = Network.load(BUNDLED.with_stem("mnist-sparse"))
    image = flash_image(network, named_plan(network, "folded"))
    assert (tmp_path / "mnist-sparse-icebreaker-weights.bin").read_bytes() == image


@pytest.mark.full
def test_too_much_for_a_board_is_said_before_placement(tmp_path, monkeypatch):
    board = replace(board_named("ulx3s-85f"), luts=100)
    monkeypatch.setitem(BOARDS, "ulx3s-85f", board)
    options = small_options(tmp_path, random_network(1))
    with pytest.raises(DoesNotFitError, match=r"^does not fit ULX3S 85F: short of \d+ LUTs"):
        build(options, Console(quiet=True))
    assert not list((tmp_path / "out").glob("*.bit"))


def test_too_many_memories_are_said_before_anything_runs(tmp_path, monkeypatch):
    network = random_network(1)
    blocks = sum(memory.blocks for memory in memories(network, named_plan(network, "minimal")))
    monkeypatch.setitem(BOARDS, "ulx3s-85f", replace(board_named("ulx3s-85f"), ram_blocks=blocks - 1))
    monkeypatch.setattr("boards.bitstream.run_fast", None)
    with pytest.raises(DoesNotFitError, match=rf"^does not fit ULX3S 85F: short of 1 block RAMs \(needs {blocks}, has "):
        build(replace(small_options(tmp_path, network), plan="minimal"), Console(quiet=True))
    assert not list((tmp_path / "out").glob("*.bit"))


def test_a_build_has_its_folder_for_itself_and_leaves_nothing_half_made(tmp_path, monkeypatch):
    options = replace(small_options(tmp_path, random_network(1)), verilog_only=True)
    other = FileLock(tmp_path / "out" / "report.json.lock", timeout=0)

    def full(*args, **options):
        assert (tmp_path / "out" / "machine.v").exists()
        with pytest.raises(Timeout):
            other.acquire()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "system.v")

    with monkeypatch.context() as patch:
        patch.setattr("boards.bitstream.system_verilog", full)
        with pytest.raises(OSError, match=r"No space left on device: 'system.v'$"):
            build(options, Console(quiet=True))
    assert not list((tmp_path / "out").glob("*.v"))
    other.acquire()
    other.release()


def test_a_build_waits_for_another_one_in_its_folder(tmp_path, monkeypatch):
    options = replace(small_options(tmp_path, random_network(1)), verilog_only=True)
    (tmp_path / "out").mkdir()
    other = FileLock(tmp_path / "out" / "report.json.lock")
    other.acquire()
    told = io.StringIO()
    said = Steps.say

    def say(self, text):
        said(self, text)
        if "waiting" in text and other.is_locked:
            assert not list((tmp_path / "out").glob("*.v"))
            other.release()

    monkeypatch.setattr(Steps, "say", say)
    build(options, Console(file=told, width=300))
    lines = [line for line in told.getvalue().splitlines() if "waiting" in line]
    assert lines[0] == f"2. waiting for another build to end, which writes to {tmp_path / 'out'} ..."
    assert sorted(path.name for path in (tmp_path / "out").glob("*.v")) == ["machine.v", "system.v"]
