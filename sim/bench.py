"""The cocotb testbench: clock, reset, progress, and a watchdog for hangs. See `sim/recorder.py` for the rest."""

import os
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, Timer

from sim.watchdog import Watchdog

PERIOD_NS = 10

SLICE_CYCLES = 20_000
"""How often progress is watched, where the environment does not say."""


@cocotb.test()
async def frames_are_answered(dut: object) -> None:
    """Runs until every frame is answered; their number, and what the cycle model expects, come in the environment."""
    frames = int(os.environ["TALLY_FRAMES"])
    cycles = int(os.environ.get("TALLY_SLICE_CYCLES", SLICE_CYCLES))
    pause, wanted, patience = (int(os.environ[f"TALLY_{name}_CYCLES"]) for name in ("PAUSE", "ALL", "PATIENCE"))
    watchdog = Watchdog(pause=pause, cycles=wanted, patience=patience)
    progress = Path(os.environ["TALLY_PROGRESS"])
    dut.rst.value = 1  # type: ignore[attr-defined]
    Clock(dut.clk, PERIOD_NS, unit="ns").start()  # type: ignore[attr-defined]
    await ClockCycles(dut.clk, 4)  # type: ignore[attr-defined]
    dut.rst.value = 0  # type: ignore[attr-defined]
    await RisingEdge(dut.clk)  # type: ignore[attr-defined]
    last, waited = -1, 0
    while (answered := int(dut.answered.value)) < frames:  # type: ignore[attr-defined]
        moved, cycle = int(dut.moved.value), int(dut.cycle.value)  # type: ignore[attr-defined]
        waited = 0 if moved != last else waited + cycles
        watchdog.check(answered=answered, frames=frames, quiet=waited, cycle=cycle)
        last = moved
        progress.write_text(f"{answered} {cycle}")
        await Timer(cycles * PERIOD_NS, unit="ns")
    await ClockCycles(dut.clk, 1000)  # type: ignore[attr-defined]
    progress.write_text(f"{answered} {int(dut.cycle.value)} {int(dut.saturations.value)}")  # type: ignore[attr-defined]
