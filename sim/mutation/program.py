"""Simulating mutants: one program for all of a netlist, which tells of each which check found it, and when."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model.support.errors import MismatchError
from model.support.files import write_file
from sim.mutation.benches import MutationBench, Stimulus
from sim.mutation.netlists import WIDTH
from sim.recorder import bench_text
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

    def find(self, mutants: Sequence[int], library: "Program | None" = None) -> list[Found]:
        """What becomes of each of these mutants, with one stimulus after the other.

        They are compared with what ``library`` records without a mutant, this program itself by default.

        Raises
        ------
        MismatchError
            The netlist without a mutant is not as both models say.
        """
        found: dict[int, Found] = {}
        for turn, stimulus in enumerate(self._bench.stimuli):
            left = [mutant for mutant in mutants if mutant not in found or not found[mutant].killed]
            if left:
                record, end = (library or self).record(turn)
                found |= zip(left, self._compare(stimulus, turn, record, end, left), strict=True)
        return [found[mutant] for mutant in mutants]

    def _arguments(self, stimulus: Stimulus, turn: int) -> list[str]:
        folder = self._folder / f"stimulus-{turn}"
        folder.mkdir(parents=True, exist_ok=True)
        told = [f"+{name}={value}" for name, value in stimulus.arguments.items()]
        for name, text in stimulus.files.items():
            write_file(folder / f"{name}.txt", text)
            told.append(f"+{name}={folder / f'{name}.txt'}")
        return told

    def record(self, turn: int) -> tuple[Path, Path]:
        """Simulate one of the stimuli without a mutant; gives the record, and what stands at its end.

        Raises
        ------
        MismatchError
            The netlist itself is not as both models say.
        """
        stimulus, folder = self._bench.stimuli[turn], self._folder / f"stimulus-{turn}"
        arguments = self._arguments(stimulus, turn)
        record, end, progress = (folder / name for name in ("record.txt", "end.txt", "progress.txt"))
        limit = 2 * stimulus.cycles + _PATIENCE
        hangs = self._run(["record", limit, stimulus.frames, end, *arguments, f"+record={record}"])[0]
        steps, cycles, *counters = end.read_text().splitlines()[0].split()
        value = sum(int(word) << 32 * number for number, word in enumerate(counters))
        write_file(progress, f"{stimulus.frames} {cycles} {value}")
        wrong = [f"hangs after {steps} cycles"] if hangs else stimulus.wrong(record, progress)
        if wrong:
            raise MismatchError(f"the netlist without a mutant is wrong: {wrong[0]}")
        with end.open("a") as file:
            file.write(" ".join(map(str, stimulus.untold(record))) + "\n")
        return record, end

    def _compare(self, stimulus: Stimulus, turn: int, record: Path, end: Path, mutants: Sequence[int]) -> list[Found]:
        arguments = [*self._arguments(stimulus, turn), "+record=/dev/null"]
        code, told = self._run(["compare", record, end, stimulus.frames, ",".join(map(str, mutants)), *arguments])
        found = []
        for line in told.splitlines():
            _, check, number, tokens, cycle = line.split()
            name = self._bench.names[int(number)] if int(number) >= 0 else ""
            late = check in ("cycle", "latency") and not self._bench.timed
            found.append(Found(check="none" if late else check, record=name, tokens=int(tokens), cycle=int(cycle)))
        if code or len(found) != len(mutants):
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
        Folder with the compiler's cache, ``ccache``, and programs without mutants.
    """
    tables = f"constexpr int kLatency[] = {{{', '.join(map(str, bench.latency))}}};\n"
    sources = {"machine.v": verilog if mutants else _with_input(verilog, bench.top), **bench.sources}
    (library / "ccache").mkdir(parents=True, exist_ok=True)
    # One without mutants is asked for again.
    cache = folder / "cache" if mutants else library
    if mutants:
        cache.mkdir(parents=True, exist_ok=True)
        if not (cache / "ccache").exists():
            (cache / "ccache").symlink_to((library / "ccache").resolve())
    text = f"{bench_text(bench.words)}{tables}{_MAIN.read_text()}"
    return Program(build_program(top="tb", sources=sources, main=text, defines={"MUTANTS": mutants}, cache=cache), bench, folder)


def _with_input(verilog: str, top: str) -> str:
    """A netlist without mutants, with their input."""
    head, found, rest = verilog.partition(f"module {top}(")
    if not found:
        raise SimulationError(f"the netlist must have a module {top}")
    ports, found, rest = rest.partition(");\n")
    return f"{head}module {top}({ports}, mutant{found}  input [{WIDTH - 1}:0] mutant;\n{rest}"
