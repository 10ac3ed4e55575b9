"""Mutants that change nothing in any state that is reached, proved from the reset on.

A mutant is put beside the netlist as gates, from the inputs of the whole component to all that is seen of it. Where it shares its
registers with the netlist, the claim is that it never gives a register, or what is seen, another value; where it may give some
registers another value, it has those of its own. ABC, which comes with Yosys, first joins signals that are always equal, by
induction, for all mutants at once; then it looks for an invariant of each claim (property directed reachability). Where a claim
does not hold, ABC gives inputs that show it. They are simulated, with random ones behind them: what differs tells which registers
a mutant needs of its own, or that it can be seen.

The module that has a mutant is looked at first, by itself: what never differs for any inputs never does within the whole. Then
come the modules around it, and at last the component. Of this one alone it is assumed what it is told of its surroundings
(`sim.mutation.surroundings`): no reset within a run, no event outside of its shape, no token that is taken back. Wherever a FIFO
is for which places are kept free (`sim.mutation.surroundings.NEVER_FULL`), it is never written while it is full:
`python -m sim.prove` proves that of the netlist without a mutant, and what differs after something that never is does not count.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.support.files import write_file
from sim.mutation.aig import Graph, Netlist
from sim.mutation.netlists import MUTANT, WIDTH, Mutant, run_yosys
from sim.mutation.surroundings import NEVER_FULL, Surroundings

__all__ = ["Reached", "proved_unreachable"]

_GATES = """read_rtlil {prepared}
select -module {top}
expose w:trace_*
select -clear
{mutate}hierarchy -top {top}
flatten
{expose}memory_map
zinit -all
setattr -unset init w:*
dffunmap
opt_expr
opt_clean
techmap
opt_expr
opt_clean
simplemap
setundef -undriven -zero
aigmap
opt_clean
write_aiger -symbols {aiger}
"""

_ABC = """read_verilog and.v
techmap
abc -script +backup;{commands};restore;strash;map
"""

_AND = "module top(input a, input b, output c);\n  assign c = a & b;\nendmodule\n"

_ROUNDS = 4
"""How often a mutant is given more registers of its own before its proof is given up."""

_PATTERNS, _CYCLES = 256, 60
"""Random inputs behind those that show a difference."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What is known of mutants, by their place.

    Parameters
    ----------
    equivalent : set[int]
        Those that change nothing.
    seen : dict[int, int]
        Those of which some inputs show a difference, and after how many cycles.
    """

    equivalent: set[int] = field(default_factory=set)
    seen: dict[int, int] = field(default_factory=dict)


def proved_unreachable(
    prepared: Path, top: str, mutants: Sequence[Mutant], around: Surroundings, folder: Path, *, seconds: int = 10
) -> Reached:
    """Which of the mutants change nothing, and which can be seen to.

    What is written goes below ``folder``, which is one below that of ``prepared``; ``seconds`` of processor time is
    what is spent on a claim's invariant.
    """
    equivalent: set[int] = set()
    for place, module in enumerate(_modules_around(mutants, top)):
        here = [
            number
            for number, each in enumerate(mutants)
            if number not in equivalent and f"{each.module}.".startswith(f"{module}.")
        ]
        told = _reached(prepared, module, [mutants[number] for number in here], _any(around), folder / f"module-{place}", seconds)
        equivalent |= {here[number] for number in told.equivalent}
    left = [number for number in range(len(mutants)) if number not in equivalent]
    told = _reached(prepared, top, [mutants[number] for number in left], around, folder, seconds)
    return Reached(
        equivalent=equivalent | {left[number] for number in told.equivalent},
        seen={left[number]: cycle for number, cycle in told.seen.items()},
    )


def _modules_around(mutants: Sequence[Mutant], top: str) -> list[str]:
    """Modules within the top one that hold any of the mutants, the inner ones first."""
    found = set()
    for each in mutants:
        path = each.module
        while path != top and path:
            found.add(path)
            path = path.rpartition(".")[0]
    return sorted(found, key=lambda path: (-path.count("."), path))


def _any(around: Surroundings) -> Surroundings:
    """Those of which nothing is known, but for whether there are resets within a run."""
    return Surroundings(seen=None, resets=bool(around.restart))


def _reached(
    prepared: Path, top: str, mutants: Sequence[Mutant], around: Surroundings, folder: Path, seconds: int
) -> Reached:
    """What is known of mutants in this module, which has these surroundings."""
    found = Reached()
    if not mutants:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    netlist = _gates(prepared, top, mutants, folder)
    own: dict[int, set[int]] = {number: set() for number in range(len(mutants))}
    for turn in range(_ROUNDS):
        if not own:
            break
        claims = _Claims(netlist, around, own)
        here = folder / f"round-{turn}"
        for number, (proved, inputs) in _decided(claims, here, seconds):
            if proved:
                found.equivalent.add(number)
            elif inputs is not None:
                cycle, differing = claims.differing(number, inputs)
                if cycle is not None:
                    found.seen[number] = cycle
                elif differing - own[number]:
                    own[number] |= differing
                    continue
            del own[number]
    return found


def _gates(prepared: Path, top: str, mutants: Sequence[Mutant], folder: Path) -> Netlist:
    """The whole component as gates, with an input that chooses a mutant."""
    mutate = [f"mutate -ctrl {MUTANT} {WIDTH} {number} {each.command}\n" for number, each in enumerate(mutants, start=1)]
    path = folder / "gates.aig"
    names = {"prepared": prepared.name, "aiger": path.relative_to(prepared.parent)}
    signals = [f"w:{fifo}.{signal}" for fifo in _never_full(prepared, top) for signal in _WRITING]
    names["expose"] = f"select -module {top}\nexpose {' '.join(signals)}\nselect -clear\n" if signals else ""
    run_yosys(_GATES.format(top=top, mutate="".join(mutate), **names), prepared.parent, f"{folder.name}-gates")
    return Netlist.from_aiger(path.read_bytes())


_WRITING = ("w_en", "w_rdy")
"""Of a FIFO: whether it is written, and whether it has room."""


def _never_full(prepared: Path, top: str) -> list[str]:
    """The FIFOs below a module that are never written while they are full, each by its path there."""
    modules = re.findall(r"^module \\(\S+)$", prepared.read_text(), re.MULTILINE)
    return [path.removeprefix(f"{top}.") for path in modules if path.startswith(f"{top}.") and path.endswith(NEVER_FULL)]


def _decided(claims: "_Claims", folder: Path, seconds: int) -> Iterator[tuple[int, tuple[bool, list[list[int]] | None]]]:
    """Of each claim whether it is proved, else inputs that refute it, by cycle, if any are found."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "and.v", _AND)
    open_ = [number for number, claim in claims.broken.items() if claim]
    for number in claims.broken.keys() - set(open_):
        yield number, (True, None)
    if not open_:
        return
    (folder / "claims.aig").write_bytes(claims.aiger(open_))
    commands = "&read,claims.aig;&scorr;&write,joined.aig"
    run_yosys(_ABC.format(commands=commands), folder, "joined")
    left = Netlist.from_aiger((folder / "joined.aig").read_bytes())
    hard = [number for number, claim in zip(open_, left.driven, strict=True) if claim]
    for number in set(open_) - set(hard):
        yield number, (True, None)
    if not hard:
        return
    for number in hard:
        status = folder / f"{number}.status"
        commands = f"read_aiger,joined.aig;cone,-a,-O,{open_.index(number)};strash;scleanup;pdr;write_status,{status.name}"
        run_yosys(_ABC.format(commands=commands), folder, f"{number}", seconds=seconds)
        told = status.read_text() if status.exists() else ""
        yield number, ("_UNSAT" in told, claims.inputs(told) if "_SAT" in told else None)


class _Claims:
    """Of each mutant the claim that it never differs, over one netlist without any.

    Parameters
    ----------
    netlist : Netlist
        With an input that chooses a mutant, from 1 on.
    around : Surroundings
        What is around it.
    own : Mapping[int, set[int]]
        Of each mutant, from 0 on, the registers it has of its own.

    Attributes
    ----------
    broken : dict[int, int]
        Literals: 1 where a claim does not hold.
    """

    def __init__(self, netlist: Netlist, around: Surroundings, own: Mapping[int, set[int]]) -> None:
        self._netlist, self._around = netlist, around
        self._graph = graph = Graph()
        self._latches: dict[int, int] = {}
        self._free: list[int] = []
        self._inputs = self._given()
        self._registers = [graph.free() for _ in netlist.latches]
        good = graph.add(netlist, self._chosen(0), self._registers)
        self._latches |= zip(self._registers, good[0], strict=True)
        self._around_latches(good[1])
        self._may_be = self._possible(good[1])
        self.broken: dict[int, int] = {}
        self._parts: dict[int, tuple[dict[int, int], int]] = {}
        for number, registers in own.items():
            copies = {register: graph.free() for register in sorted(registers)}
            here = [copies.get(register, shared) for register, shared in enumerate(self._registers)]
            taken, given = graph.add(netlist, self._chosen(1 + number), here)
            self._latches |= {copy: taken[register] for register, copy in copies.items()}
            pairs = enumerate(zip(good[0], taken, strict=True))
            differ = [graph.differ(one, other) for register, (one, other) in pairs if register not in copies]
            seen = self._seen_to_differ(good[1], given)
            self.broken[number] = graph.both(graph.any([*differ, seen]), self._may_be)
            self._parts[number] = (copies, seen)

    def _given(self) -> dict[str, int]:
        """The literals of the inputs, but for the mutant's number."""
        graph, around = self._graph, self._around
        found = {}
        for name in self._netlist.inputs:
            if name == "clk" or name.partition("[")[0] == MUTANT:
                continue
            if name == "rst" and not around.resets:
                found[name] = graph.free() if around.restart else 0
            else:
                found[name] = self._input()
        if source := around.source:
            bit = f"{source.name}__payload[{{}}]" if source.width > 1 else f"{source.name}__payload"
            names = [bit.format(place) for place in range(source.width)]
            self._waits = graph.free()
            token = source.token(graph, [found[name] for name in names])
            for name, offered in zip(names, token, strict=True):
                kept = graph.free()
                found[name] = self._latches[kept] = graph.choose(self._waits, kept, offered)
            found[f"{source.name}__valid"] = graph.either(self._waits, found[f"{source.name}__valid"])
        return found

    def _input(self) -> int:
        self._free.append(self._graph.free())
        return self._free[-1]

    def _around_latches(self, given: Sequence[int]) -> None:
        """What the surroundings' own registers take."""
        graph, around = self._graph, self._around
        if around.source:
            name = around.source.name
            taken = given[self._netlist.outputs[f"{name}__ready"]]
            self._latches[self._waits] = graph.both(self._inputs[f"{name}__valid"], taken ^ 1)
        if around.restart:
            self._latches[self._inputs["rst"]] = given[self._netlist.outputs[around.restart]]

    def _chosen(self, number: int) -> list[int]:
        """Literals of all inputs, with a mutant's number."""
        found = [0] * len(self._netlist.inputs)
        for name, place in self._netlist.inputs.items():
            if name in self._inputs:
                found[place] = self._inputs[name]
            elif name != "clk":
                found[place] = number >> int(name.partition("[")[2][:-1]) & 1
        return found

    def _possible(self, given: Sequence[int]) -> int:
        """Whether no FIFO is written without room that never is."""
        outputs, found = self._netlist.outputs, 1
        for name, place in outputs.items():
            if name.endswith(f".{_WRITING[0]}"):
                has_room = given[outputs[f"{name.removesuffix(_WRITING[0])}{_WRITING[1]}"]]
                found = self._graph.both(found, self._graph.both(given[place], has_room ^ 1) ^ 1)
        return found

    def _seen_to_differ(self, good: Sequence[int], bad: Sequence[int]) -> int:
        """Whether what is seen of both differs."""
        graph, netlist = self._graph, self._netlist

        def flag(names: Sequence[str], given: Sequence[int]) -> int:
            found = 1
            for name in names:
                found = graph.both(found, self._inputs[name] if name in self._inputs else given[netlist.outputs[name]])
            return found

        differ = []
        told = (name.partition("[")[0] for name in netlist.outputs if not name.endswith(tuple(f".{each}" for each in _WRITING)))
        everything = [((), name) for name in dict.fromkeys(told)]
        for names, payload in everything if self._around.seen is None else self._around.seen:
            one, other = flag(names, good), flag(names, bad)
            differ.append(graph.differ(one, other))
            both = graph.both(one, other)
            differ += [graph.both(both, graph.differ(good[bit], bad[bit])) for bit in netlist.bits(payload)]
        return graph.any(differ)

    def aiger(self, numbers: Sequence[int]) -> bytes:
        """The claims of these mutants, each as an output."""
        return self._graph.aiger(self._free, self._latches, [self.broken[number] for number in numbers])

    def inputs(self, status: str) -> list[list[int]]:
        """The inputs that a status tells, cycle by cycle; in front of them it has the registers that it begins with."""
        _, _, bits = status.splitlines()[:3]
        given, width = [int(bit) for bit in bits], len(self._free)
        return [given[at : at + width] for at in range(0, len(given), width)]

    def differing(self, number: int, inputs: Sequence[Sequence[int]]) -> tuple[int | None, set[int]]:
        """After which cycle a mutant is seen to differ, else which registers are, with random inputs behind these."""
        apart = _Claims(self._netlist, self._around, {number: set(range(len(self._netlist.latches)))})
        return apart._simulated(number, inputs)

    def _simulated(self, number: int, inputs: Sequence[Sequence[int]]) -> tuple[int | None, set[int]]:
        chance, ones = random.Random(f"inputs of {number}"), (1 << _PATTERNS) - 1
        copies, seen = self._parts[number]
        state: dict[int, int] = dict.fromkeys(self._latches, 0)
        found, possible = set[int](), ones
        for cycle in range(len(inputs) + _CYCLES):
            if cycle < len(inputs):
                given = [ones if bit else 0 for bit in inputs[cycle]]
            else:
                given = [chance.getrandbits(_PATTERNS) for _ in self._free]
            values = self._graph.values(state | dict(zip(self._free, given, strict=True)), ones)

            def value(literal: int, values: Sequence[int] = values) -> int:
                return values[literal >> 1] ^ (ones if literal & 1 else 0)

            possible &= value(self._may_be)
            if value(seen) & possible:
                return cycle + 1, found
            state = {latch: value(taken) for latch, taken in self._latches.items()}
            found |= {register for register, copy in copies.items() if state[copy] != state[self._registers[register]]}
        return None, found
