"""What a simulation that does not come to its end is called: a machine that hangs differs, a simulator that stops fails."""

import errno
import os
import shutil

import pytest

import sim.simulators
from model.support.cache import are_whole
from model.support.errors import Exit, MismatchError
from sim.simulators import SimulationError, _count, build

STANDS_STILL = """
module tb(input clk, input rst);
  wire [31:0] answered = 2;
  reg [31:0] cycle = 0, moved = 0;
  wire [15:0] saturations = 0;
  always @(posedge clk) if (!rst) cycle <= cycle + 1;
  always @(posedge clk) if (!rst && moved < 1000) moved <= moved + 1;
endmodule
"""
"""Answers two frames and takes a thousand tokens; then nothing moves."""

GOES_ON = STANDS_STILL.replace("moved < 1000", "1")
"""Answers two frames, and has tokens to pass without end."""

STOPS = """
module tb(input clk, input rst);
  wire [31:0] answered = 2;
  reg [31:0] cycle = 0, moved = 0;
  wire [15:0] saturations = 0;
  always @(posedge clk) begin
    moved <= moved + 1;
    if (moved == 1000) $finish;
  end
endmodule
"""


def run(verilog, frames, folder):
    """Run the bench on ``verilog`` until that many frames are answered."""
    if not shutil.which("iverilog"):
        pytest.skip("iverilog is not installed; get it with: apt-get install iverilog")
    simulation = build("icarus", top="tb", sources={"tb.v": verilog}, cache=folder / "cache")
    cycles = {"SLICE": 1000, "PAUSE": 40, "ALL": 30_000, "PATIENCE": 50_000}
    environment = {f"TALLY_{name}_CYCLES": str(count) for name, count in cycles.items()}
    environment |= {"TALLY_FRAMES": str(frames), "TALLY_PROGRESS": str(folder / "progress.txt")}
    simulation.run("sim.bench", folder / "run", [], environment)


@pytest.mark.parametrize(
    ("machine", "how"),
    [
        (STANDS_STILL, ", no token has passed anywhere for 51000 cycles"),
        (GOES_ON, " after 110000 cycles, where the cycle model says 30000 for all"),
    ],
)
def test_a_machine_that_hangs_is_a_mismatch(machine, how, tmp_path):
    run(machine, 2, tmp_path)
    assert (tmp_path / "progress.txt").read_text() == "2 1000 0"
    with pytest.raises(MismatchError) as raised:
        run(machine, 3, tmp_path)
    assert raised.value.exit_code == Exit.MISMATCH == 5
    assert str(raised.value) == (
        f"icarus: 1 tests ran, 1 failed (1); see {tmp_path / 'run' / 'simulation.log'}: "
        f"AssertionError: hangs: 2 of 3 frames answered{how}"
    )


def test_a_simulator_that_stops_is_a_failed_tool(tmp_path):
    with pytest.raises(SimulationError) as raised:
        run(STOPS, 3, tmp_path)
    assert raised.value.exit_code == Exit.TOOL_FAILED == 7
    assert str(raised.value).startswith(
        f"icarus: 1 tests ran, 1 failed (1); see {tmp_path / 'run' / 'simulation.log'}: "
        "cocotb.regression.SimFailure: cocotb expected it would shut down the simulation, but the simulation ended prematurely."
    )


def test_a_bench_that_fails_is_a_failed_tool(tmp_path):
    """Whatever else a bench raises is no word on the machine; here, it is not told how many frames there are."""
    with pytest.raises(SimulationError) as raised:
        run(STANDS_STILL, "many", tmp_path)
    assert str(raised.value) == (
        f"icarus: 1 tests ran, 1 failed (1); see {tmp_path / 'run' / 'simulation.log'}: "
        "ValueError: invalid literal for int() with base 10: 'many'"
    )


def test_what_is_damaged_is_compiled_again(tmp_path):
    run(STANDS_STILL, 2, tmp_path)
    (program,) = tmp_path.glob("cache/icarus-*/sim.vvp")
    whole = program.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole.replace(b"tb", b"tc", 1)):
        program.write_bytes(damaged)
        run(STANDS_STILL, 2, tmp_path)
        assert are_whole(program.parent, (program.parent / ".done").read_text())
    program.unlink()
    run(STANDS_STILL, 2, tmp_path)
    assert are_whole(program.parent, (program.parent / ".done").read_text())


def test_a_compiled_simulation_is_found_where_nothing_can_be_written(tmp_path, monkeypatch):
    run(STANDS_STILL, 2, tmp_path)
    monkeypatch.setattr(sim.simulators, "alone", None)
    run(STANDS_STILL, 2, tmp_path)


def test_a_full_disk_is_no_word_on_the_machine(tmp_path, monkeypatch):
    """The program, or the record, has only a part of what was to be written; the tools say nothing."""
    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(sim.simulators, "check_room", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*sim\.vvp'$"):
            run(STANDS_STILL, 2, tmp_path)
    assert not list(tmp_path.glob("cache/icarus-*/.done"))
    run(STANDS_STILL, 2, tmp_path)
    monkeypatch.setattr(sim.simulators, "check_room", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*run/results\.xml'$"):
        run(STANDS_STILL, 2, tmp_path)


def test_results_of_which_a_part_is_there_are_none(tmp_path):
    for text in ("", "<testsuites><testsuite><testcase"):
        (tmp_path / "results.xml").write_text(text)
        assert _count(tmp_path / "results.xml") == (0, 0)
