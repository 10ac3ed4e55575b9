"""Simulating mutants: one program for all of a netlist, which tells of each which check found it, and when."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model.support.errors import MismatchError
from model.support.files import write_file
from sim.mutation.benches import MutationBench
from sim.mutation.netlists import WIDTH
from sim.simulators import SimulationError, build_program

__all__ = ["Found", "Program", "compile_netlist"]

_MAIN = Path(__file__).with_name("program.cpp")

_PATIENCE = 20_000
"""Cycles without a mutant that a machine may take longer than the cycle model, which loads no weights."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What became of a mutant.

    Parameters
    ----------
    check : str
        What differs: ``"token"`` (an event, spike, answer, copy), ``"cycle"`` or ``"latency"`` (the same, at another time),
        ``"counter"`` (of saturations), ``"hang"``, ``"crash"`` (it never settles), or ``"none"``.
    record : str
        Where that is: the name of a record, empty where it is in none.
    tokens, cycle : int
        Tokens that passed before, and the cycle.
    """

    check: str
    record: str
    tokens: int
    cycle: int

    @property
    def killed(self) -> bool:
        """Whether anything differs."""
        return self.check != "none"


class Program:
    """A compiled netlist with its mutants.

    Parameters
    ----------
    path : Path
        The program.
    bench : MutationBench
        What it simulates.
    folder : Path
        For what it reads and writes.
    """

    def __init__(self, path: Path, bench: MutationBench, folder: Path) -> None:
        self._path, self._bench, self._folder = path.resolve(), bench, folder.resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._arguments = [f"+{name}={value}" for name, value in bench.arguments.items()]
        for name, text in bench.files.items():
            write_file(self._folder / f"{name}.txt", text)
            self._arguments.append(f"+{name}={self._folder / f'{name}.txt'}")

    def record(self) -> tuple[Path, Path]:
        """Simulate without a mutant; gives the record, and what stands at its end, for `compare`.

        Raises
        ------
        MismatchError
            The netlist itself is not as both models say.
        """
        record, end = self._folder / "record.txt", self._folder / "end.txt"
        limit = 2 * self._bench.cycles + _PATIENCE
        hangs = self._run(["record", limit, self._bench.frames, end, *self._arguments, f"+record={record}"])[0]
        steps, cycles, *counters = end.read_text().splitlines()[0].split()
        value = sum(int(word) << 32 * number for number, word in enumerate(counters))
        progress = self._folder / "progress.txt"
        write_file(progress, f"{self._bench.frames} {cycles} {value}")
        wrong = [f"hangs after {steps} cycles"] if hangs else self._bench.wrong(record, progress)
        if wrong:
            raise MismatchError(f"the netlist without a mutant is wrong: {wrong[0]}")
        with end.open("a") as file:
            file.write(" ".join(map(str, self._bench.untold(record))) + "\n")
        return record, end

    def compare(self, record: Path, end: Path, first: int, last: int) -> list[Found]:
        """What becomes of each of these mutants, against a record."""
        files = (record.resolve(), end.resolve())
        code, told = self._run(["compare", *files, self._bench.frames, first, last, *self._arguments, "+record=/dev/null"])
        found = []
        for line in told.splitlines():
            _, check, number, tokens, cycle = line.split()
            name = self._bench.names[int(number)] if int(number) >= 0 else ""
            late = check in ("cycle", "latency") and not self._bench.timed
            found.append(Found(check="none" if late else check, record=name, tokens=int(tokens), cycle=int(cycle)))
        if code or len(found) != last - first + 1:
            raise SimulationError(f"the simulation of mutants stopped with exit code {code}, after {len(found)} of them")
        return found

    def _run(self, args: Sequence[object]) -> tuple[int, str]:
        done = subprocess.run([self._path, *map(str, args)], capture_output=True, text=True, check=False, cwd=self._folder)
        if done.returncode not in (0, 1):
            raise SimulationError(f"{self._path.name}: exit code {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.returncode, done.stdout


def compile_netlist(verilog: str, bench: MutationBench, *, mutants: int, folder: Path, library: Path) -> Program:
    """Compile a netlist with so many mutants, or without any, in its bench.

    Parameters
    ----------
    verilog : str
        The netlist.
    bench : MutationBench
        The bench.
    mutants : int
        How many there are; at 0 the netlist has no input for them.
    folder : Path
        For all that is written.
    library : Path
        Folder with the compiler's cache, ``ccache``.
    """
    tables = f"constexpr int kWords[] = {{{', '.join(map(str, bench.words))}}};\n"
    tables += f"constexpr int kLatency[] = {{{', '.join(map(str, bench.latency))}}};\n"
    sources = {"machine.v": verilog if mutants else _with_input(verilog, bench.top), **bench.sources}
    cache = folder / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (library / "ccache").mkdir(parents=True, exist_ok=True)
    if not (cache / "ccache").exists():
        (cache / "ccache").symlink_to((library / "ccache").resolve())
    text = f"#include <cstdint>\n{tables}{_MAIN.read_text()}"
    return Program(build_program(top="tb", sources=sources, main=text, defines={"MUTANTS": mutants}, cache=cache), bench, folder)


def _with_input(verilog: str, top: str) -> str:
    """A netlist without mutants, with their input."""
    head, found, rest = verilog.partition(f"module {top}(")
    if not found:
        raise SimulationError(f"the netlist must have a module {top}")
    ports, found, rest = rest.partition(");\n")
    return f"{head}module {top}({ports}, mutant{found}  input [{WIDTH - 1}:0] mutant;\n{rest}"
