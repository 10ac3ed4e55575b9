"""Proofs of what components assert, with the prover of `sim.formal` and a solver that comes with the packages of the tests."""

import re
import subprocess
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import wiring

from hw.flow.tools import find_tool
from sim.formal.prover import Outcome, find_solver, search

__all__ = ["prove"]

_SCRIPT = """read_rtlil top.il
hierarchy -top top
proc
flatten
async2sync
chformal -assume -early
opt_expr
opt_clean
setundef -undriven -anyseq
write_smt2 -wires top.smt2
"""
"""Without a state, and without merging what is alike: every assertion stays one."""

_STATE = re.compile(r"cell \$(\w*ff\w*|\w*latch\w*|mem\w*) ")
"""RTLIL's registers and memories."""


def prove(component: wiring.Component, folder: Path, *, asserts: int) -> str | None:
    """Prove for all inputs what ``component`` asserts (`amaranth.hdl.Assert`).

    Parameters
    ----------
    component : wiring.Component
        Combinational: of what has no state, a single step is all that there is to prove.
    folder : Path
        For what is written, the trace of a counterexample among it.
    asserts : int
        How many assertions there must be, so that none is left out.

    Returns
    -------
    str or None
        The lines of the solver that say what fails, or None where all is proved.

    Raises
    ------
    ToolError
        It is neither.
    """
    text = rtlil.convert(component, name="top", emit_src=False)
    assert text.count('parameter \\FLAVOR "assert"') == asserts
    assert not _STATE.search(text)
    (folder / "top.il").write_text(text)
    (folder / "top.ys").write_text(_SCRIPT)
    done = subprocess.run([find_tool("yosys"), "-q", "top.ys"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "top.smt2").read_text().count("; yosys-smt2-assert ") == asserts
    found = search(folder, find_solver(), steps=1)
    assert bool(found.failed) == (found.outcome is Outcome.FAILS)
    return found.failed or None
