"""A machine that single bits are flipped in: its program, what it does undisturbed, and what it does after a flip."""

import itertools
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from amaranth.lib import data

from hw.aer import Kind
from hw.flow.families.ice40 import ICE40
from hw.flow.verilog import machine_verilog
from hw.folded.machine import FoldedMachine
from hw.machines import AnyMachine, machine_of
from hw.parts.single_port import PARTS
from model.engine.engine import run_fast
from model.events import Events
from model.machine.plan import Plan
from model.machine.simulate import simulate as cycles
from model.network import INPUT, Network
from model.support.errors import MismatchError
from model.support.files import write_file
from sim.cosimulation import host_tokens, loaded_weights
from sim.netlist import cell_models
from sim.recorder import RESULT, bench_text, records, seen_words, wrapper
from sim.seu.places import MOVING, STILL, Place, opened, opened_spram
from sim.simulators import SimulationError, build_program
from sim.watchdog import PATIENCE_CYCLES

__all__ = ["Answer", "Flip", "OpenMachine", "Passed", "Run", "places_of"]

_MAIN = Path(__file__).with_name("program.cpp")


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A bit that is flipped once.

    Parameters
    ----------
    place : Place
        Where.
    word, bit : int
        Word of a memory, 0 of a register; and bit, the lowest is 0.
    cycle : int
        The cycle in which the bit is another one for the first time; 1 is the second in which the machine may take a token.
    """

    place: Place
    word: int
    bit: int
    cycle: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer, and when it came.

    Parameters
    ----------
    answer, counts : int, tuple[int, ...]
        What it says.
    cycle, latency : int
        When it left, and how long its frame took, as the machine says.
    """

    answer: int
    counts: tuple[int, ...]
    cycle: int
    latency: int


@dataclass(frozen=True, kw_only=True)
class Passed:
    """What passed in a run.

    Parameters
    ----------
    answers : tuple[Answer, ...]
        All answers.
    links : tuple[tuple[str, ...], ...]
        Of each link and each frame a hash of its events, in order.
    weight_passes : int
        Passes that the check of the weights has completed, where there is one.
    weights_differ : tuple[str, ...]
        Cores of whose weights it says that they are not the network's.
    """

    answers: tuple[Answer, ...]
    links: tuple[tuple[str, ...], ...]
    weight_passes: int = 0
    weights_differ: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Run:
    """What followed a flip.

    Parameters
    ----------
    end : str
        ``"same"`` where the run was ended when all was as without the flip, ``"ran"`` where it went to the end, or ``"hang"``.
    cycle : int
        When it ended.
    healed_cycle : int | None
        When all registers and memories were found to be as without the flip for good: they are compared now and then.
    before, after : int
        The bit, before and after the flip.
    passed : Passed
        What passed until then.
    """

    end: str
    cycle: int
    healed_cycle: int | None
    before: int
    after: int
    passed: Passed


def places_of(network: Network, plan: Plan, cache: Path) -> tuple[dict[str, str], list[Place]]:
    """The Verilog of a machine that is open, by file, and its places.

    Parameters
    ----------
    network, plan : Network, Plan
        The machine.
    cache : Path
        Where generated Verilog is kept.
    """
    machine = machine_of(network, plan)
    text, places = opened(machine_verilog(network, plan, cache))
    sources = {"machine.v": text, "tb.v": wrapper(machine, seen=True)}
    if isinstance(machine, FoldedMachine) and machine.folded.single_words:
        folded = machine.folded
        sources["cells.v"], more = opened_spram(
            cell_models(["SB_SPRAM256KA"], ICE40),
            parts=PARTS,
            states=folded.single_state_words,
            weights=folded.single_weight_words,
        )
        places += more
    return sources, places


class OpenMachine:
    """A compiled machine and the frames that it is given, back to back.

    Parameters
    ----------
    network, plan : Network, Plan
        The machine.
    frames : Sequence[Events]
        The frames.
    cache : Path
        Where compiled simulations and generated Verilog are kept.
    folder : Path
        For what the program reads and writes; no other may use it meanwhile.

    Raises
    ------
    ToolMissingError, SimulationError
        Verilator is not installed; the build failed.
    """

    def __init__(self, network: Network, plan: Plan, frames: Sequence[Events], *, cache: Path, folder: Path) -> None:
        self._machine: AnyMachine = machine_of(network, plan)
        self._traces = [run_fast(network, frame) for frame in frames]
        self._folder = folder.resolve()
        sources, self.places = places_of(network, plan, cache)
        words = seen_words(self._machine)
        names = records(self._machine)
        ends = [_end_bits(trace.layout) if trace.form == "events" else (0, 0) for trace in self._machine.traces]
        ends += [(0, 0)] * (len(names) - len(ends))
        self._links = sum(mask > 0 for mask, _ in ends)
        tables = f"constexpr uint32_t kEnds[][2] = {{{', '.join(f'{{{mask}u, {value}u}}' for mask, value in ends)}}};\n"
        tables += f"constexpr int kInput = {names.index(f'events_{INPUT}')}, kResult = {names.index(RESULT)};\n"
        self._program = build_program(
            top="tb", sources=sources, main=f"{bench_text(words)}\n{tables}{_MAIN.read_text()}", defines={}, cache=cache
        )

    @property
    def frames(self) -> int:
        """Frames of a run."""
        return len(self._traces)

    @property
    def expected(self) -> list[tuple[int, tuple[int, ...]]]:
        """Answer and counts of each frame by the golden model."""
        return [(trace.answer, tuple(trace.counts.tolist())) for trace in self._traces]

    @cached_property
    def _undisturbed(self) -> tuple[Passed, list[int]]:
        """What passes without a flip, and of each place a mask of the bits of a register that change.

        Raises
        ------
        MismatchError
            The machine does not answer as the golden model.
        """
        machine, folder = self._machine, self._folder
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / "tokens.txt", "".join(host_tokens(machine, trace.events) for trace in self._traces))
        write_file(folder / "weights.txt", "".join(f"{word:x}\n" for word in loaded_weights(machine)))
        rows = [f"{place.name} {place.bits} {place.words} {int(place.written)}\n" for place in self.places]
        write_file(folder / "places.txt", "".join(rows))
        told = folder / "undisturbed.txt"
        wanted = int(cycles(machine.network, machine.plan, [trace.events for trace in self._traces]).answered[-1])
        # Loading takes a cycle a part, and a check of all.
        limit = wanted + (PARTS + 2) * len(loaded_weights(machine)) + PATIENCE_CYCLES
        done = subprocess.run(self._command("undisturbed", told, limit), capture_output=True, text=True, check=False)
        if done.returncode == 4:
            raise MismatchError(f"the machine hangs without a flip: no answer to all frames after {limit} cycles")
        self._check(done.returncode, done.stderr)
        lines = told.read_text().splitlines()
        passed = self._passed(lines[1].split())
        found = [(answer.answer, answer.counts) for answer in passed.answers]
        if found != self.expected:
            raise MismatchError(f"the machine without a flip answers {found}, the golden model {self.expected}")
        masks = [int.from_bytes(bytes.fromhex(line[1:]), "little") for line in lines[2 : 2 + len(self.places)]]
        return passed, masks

    @property
    def undisturbed(self) -> Passed:
        """What passes without a flip, which is as the golden model says."""
        return self._undisturbed[0]

    def bits_of(self, of: str) -> list[tuple[Place, list[int]]]:
        """All places with bits of one of `CLASSES`, and which bits of their words these are."""
        found = []
        for place, mask in zip(self.places, self._undisturbed[1], strict=True):
            if place.of == of:
                found.append((place, list(range(place.bits))))
            elif of in (MOVING, STILL) and not place.of:
                bits = [bit for bit in range(place.bits) if (mask >> bit & 1) == (of == MOVING)]
                found += [(place, bits)] if bits else []
        return found

    def class_of(self, flip: Flip) -> str:
        """Which of `CLASSES` a bit is of."""
        if flip.place.of:
            return flip.place.of
        return MOVING if self._undisturbed[1][self.places.index(flip.place)] >> flip.bit & 1 else STILL

    def flip(self, flips: Sequence[Flip]) -> Iterator[Run]:
        """What follows each of these flips, in ascending order of cycles, each on its own."""
        order = [flip.cycle for flip in flips]
        if order != sorted(order):
            raise ValueError("flips must be in ascending order of their cycles")
        _ = self._undisturbed
        number = {id(place): index for index, place in enumerate(self.places)}
        path = self._folder / "flips.txt"
        told = self._folder / "undisturbed.txt"
        lines = [f"{number[id(flip.place)]} {flip.word} {flip.bit} {flip.cycle}\n" for flip in flips]
        write_file(path, "".join(lines))
        command = self._command("flip", told, path)
        done = 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    yield self._run(line)
                    done += 1
                code = process.wait()
            finally:
                process.kill()
        self._check(code, "")
        if done != len(flips):
            raise SimulationError(f"the simulation of flips stopped after {done} of {len(flips)}")

    def _command(self, what: str, *words: object) -> list[str]:
        folder = self._folder
        arguments = [f"+{name}={folder / name}.txt" for name in ("tokens", "weights")]
        told = [what, self.frames, folder / "places.txt", *words, *arguments, "+record=/dev/null"]
        return [str(self._program), *map(str, told)]

    def _check(self, code: int, told: str) -> None:
        if code:
            raise SimulationError(f"{self._program.name}: exit code {code}{f': {told.strip()[-300:]}' if told else ''}")

    def _run(self, line: str) -> Run:
        end, *words = line.split()
        if end == "crash":
            raise SimulationError("the simulation of a flip stopped")
        cycle, healed, before, after = map(int, words[:4])
        return Run(
            end=end,
            cycle=cycle,
            healed_cycle=None if healed < 0 else healed,
            before=before,
            after=after,
            passed=self._passed(words[4:]),
        )

    def _passed(self, words: Sequence[str]) -> Passed:
        left = iter(words)
        layout = self._machine.result.payload.shape()
        passes = int(next(left))
        differ = [self.places[int(next(left))].name.split(".")[0].removeprefix("core_") for _ in range(int(next(left)))]
        answers = []
        for _ in range(int(next(left))):
            cycle, view = int(next(left)), layout.from_bits(int(next(left), 16) & (1 << layout.size) - 1)
            counts = tuple(int(count) for count in view.counts)
            answers.append(Answer(answer=int(view.answer), counts=counts, cycle=cycle, latency=int(view.cycles)))
        links = [tuple(itertools.islice(left, int(next(left)))) for _ in range(self._links)]
        return Passed(answers=tuple(answers), links=tuple(links), weight_passes=passes, weights_differ=tuple(differ))


def _end_bits(layout: data.Layout) -> tuple[int, int]:
    """Which bits of an event say that it is the end of a frame, and no flush or barrier alone; and their value there."""
    names = [name for name in ("kind", "negative", "closes") if name in dict(layout)]
    mask = sum((1 << layout[name].width) - 1 << layout[name].offset for name in names)
    return mask, layout.const({"kind": Kind.END}).as_value().value
