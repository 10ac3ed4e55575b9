"""Toggles of a netlist's nets, counted by the netlist itself while it is simulated.

In each cycle each net has one value, which it has settled to before the clock's edge. A net toggles where the value is another
than that of the cycle before: what it does in between is not simulated, so glitches are not counted.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.netlist import IGNORED, net_names
from sim.toggling.kinds import ACCESSES, FLIP_FLOP, INPUT, KINDS, accesses, driver

__all__ = ["ANSWER", "FILE", "QUIET_CYCLES", "Counted", "Group", "Total", "counted", "read_totals"]

FILE = "toggles.txt"
"""What the simulation writes, in the folder that it runs in."""

ANSWER, QUIET = 1, 0
"""What a line of the file is of: a mark, such as an answer; or a number of cycles without one."""

QUIET_CYCLES = (100, 900)
"""After so many cycles in which nothing begins and nothing is marked, a line is written as well."""

_CHUNK = 64
"""Nets are compared so many at a time: the width of a word of what Verilator makes."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Nets of one kind that have as many sinks, or accesses of one kind; they are counted together.

    Parameters
    ----------
    kind : str
        One of `KINDS` or `ACCESSES`.
    sinks : int
        Inputs of cells and outputs of the machine that a net goes to; 0 of accesses.
    count : int
        Nets, or ports of memories.
    """

    kind: str
    sinks: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A netlist that counts.

    Parameters
    ----------
    lines : tuple[str, ...]
        What is added to the module's Verilog.
    groups : tuple[Group, ...]
        What it counts, in the file's order.
    cells : Mapping[str, int]
        Its cells, without those that only traces need.
    flip_flops : int
        Flip-flops among them.
    """

    lines: tuple[str, ...]
    groups: tuple[Group, ...]
    cells: Mapping[str, int]
    flip_flops: int


@dataclass(frozen=True, kw_only=True)
class Total:
    """What was counted from the first cycle to another, both included.

    Parameters
    ----------
    what : int
        `ANSWER` or `QUIET`.
    cycles : int
        How many they were.
    counts : tuple[int, ...]
        Toggles or accesses of each group.
    """

    what: int
    cycles: int
    counts: tuple[int, ...]


def counted(module: Mapping[str, Any], *, begins: str, marked: str, beside: str = "trace_") -> Counted:
    """What makes a module of Yosys' JSON netlist count, on the edges of its input ``clk``.

    Parameters
    ----------
    module : Mapping[str, Any]
        The module.
    begins, marked : str
        Verilog of its ports: true in the first cycle that counts, and in those after which the counts are written.
    beside : str
        How outputs begin that are there for the testbench only. What nothing else needs is not counted.

    Raises
    ------
    SimulationError : a cell is not known
    """
    cells = _needed(module, beside)
    names = net_names(module)
    sinks = _sinks(module, cells, beside)
    clocks = set(module["ports"]["clk"]["bits"])
    members: dict[tuple[str, int], list[str]] = defaultdict(list)
    for port in module["ports"].values():
        if port["direction"] == "input":
            for bit in port["bits"]:
                if sinks[bit] and bit not in clocks:
                    members[INPUT, sinks[bit]].append(names[bit])
    for cell in cells:
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "output":
                kind = driver(cell["type"], port)
                for bit in bits:
                    if sinks[bit]:
                        members[kind, sinks[bit]].append(names[bit])

        def pin(port: str, cell: Mapping[str, Any] = cell) -> str:
            (bit,) = cell["connections"].get(port, ["0"])
            return names[bit] if isinstance(bit, int) else f"1'b{bit}"

        for kind, conditions in accesses(cell, pin).items():
            members[kind, 0] += [condition for condition in conditions if condition]
    order = [*KINDS, *ACCESSES]
    keys = sorted(members, key=lambda key: (order.index(key[0]), key[1]))
    return Counted(
        lines=tuple(_lines([members[key] for key in keys], [key[0] in KINDS for key in keys], begins, marked)),
        groups=tuple(Group(kind=kind, sinks=number, count=len(members[kind, number])) for kind, number in keys),
        cells=Counter(cell["type"] for cell in cells),
        flip_flops=sum(_is_flip_flop(cell) for cell in cells),
    )


def read_totals(path: Path) -> list[Total]:
    """The lines of the file that a simulation wrote."""
    rows = [[int(word) for word in line.split()] for line in path.read_text().splitlines()]
    return [Total(what=row[0], cycles=row[1], counts=tuple(row[2:])) for row in rows]


def _is_flip_flop(cell: Mapping[str, Any]) -> bool:
    return "Q" in cell["port_directions"] and driver(cell["type"], "Q") == FLIP_FLOP


def _ports(cell: Mapping[str, Any], direction: str) -> list[int]:
    """The nets at a cell's inputs or outputs."""
    found = [bits for port, bits in cell["connections"].items() if cell["port_directions"][port] == direction]
    return [bit for bits in found for bit in bits if isinstance(bit, int)]


def _outputs(module: Mapping[str, Any], beside: str) -> list[int]:
    """The nets at the module's outputs, but for those that begin with ``beside``."""
    ports = [of for port, of in module["ports"].items() if of["direction"] == "output" and not port.startswith(beside)]
    return [bit for of in ports for bit in of["bits"] if isinstance(bit, int)]


def _needed(module: Mapping[str, Any], beside: str) -> list[Mapping[str, Any]]:
    """The cells that the module's outputs need."""
    cells = {name: cell for name, cell in module["cells"].items() if cell["type"] not in IGNORED}
    source = {bit: name for name, cell in cells.items() for bit in _ports(cell, "output")}
    found: set[str] = set()
    left = _outputs(module, beside)
    while left:
        name = source.get(left.pop())
        if name is not None and name not in found:
            found.add(name)
            left += _ports(cells[name], "input")
    return [cell for name, cell in cells.items() if name in found]


def _sinks(module: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], beside: str) -> Counter[int]:
    """To how many inputs of cells and outputs of the module each net goes."""
    return Counter(_outputs(module, beside)) + Counter(bit for cell in cells for bit in _ports(cell, "input"))


def _lines(members: Sequence[Sequence[str]], toggles: Sequence[bool], begins: str, marked: str) -> list[str]:
    """Verilog that counts each group's members: where they change, or where they are true."""
    declared, compared, kept = [], [], []
    for number, (of, changes) in enumerate(zip(members, toggles, strict=True)):
        terms = []
        for first in range(0, len(of), _CHUNK):
            chunk, name = of[first : first + _CHUNK], f"{number}_{first // _CHUNK}"
            width = f"[{len(chunk) - 1}:0]"
            declared.append(f"  wire {width} toggles$now_{name} = {{{', '.join(chunk)}}};")
            if changes:
                declared.append(f"  reg {width} toggles$last_{name} = 0;")
                kept.append(f"    toggles$last_{name} <= toggles$now_{name};")
            terms.append(f"$countones(toggles$now_{name}" + (f" ^ toggles$last_{name})" if changes else ")"))
        declared.append(f"  reg [63:0] toggles$total_{number} = 0;")
        compared.append(f"      toggles$total_{number} = toggles$total_{number} + {' + '.join(terms)};")
    totals = "".join(f", toggles$total_{number}" for number in range(len(members)))
    quiet = " || ".join(f"toggles$quiet == {cycles}" for cycles in QUIET_CYCLES)
    return [
        *declared,
        "  integer toggles$file;",
        "  reg toggles$begun = 0;",
        "  reg [63:0] toggles$cycles = 0, toggles$quiet = 0;",
        f'  initial toggles$file = $fopen("{FILE}", "w");',
        "  always @(posedge clk) begin",
        f"    if (toggles$begun || ({begins})) begin",
        *compared,
        "      toggles$begun = 1;",
        "      toggles$cycles = toggles$cycles + 1;",
        f"      toggles$quiet = ({begins}) || ({marked}) ? 0 : toggles$quiet + 1;",
        f"      if (({marked}) || {quiet})",
        f'        $fwrite(toggles$file, "%0d %0d{" %0d" * len(members)}\\n", ({marked}) ? 1 : 0, toggles$cycles{totals});',
        "    end",
        *kept,
        "  end",
    ]
