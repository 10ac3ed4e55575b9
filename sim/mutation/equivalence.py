"""Mutants that change nothing, proved: by SAT, for all inputs and all states in which both netlists agree.

The netlist and the one with the fault are put side by side. Both begin alike, with the same initial values. Suppose that their
registers have equal values in a cycle, and the words that their memories read too; then Yosys' ``sat`` proves that all outputs of
this cycle, and all that registers and memories take for the next, are equal as well. Where some registers may come to differ they
are taken out of the supposition, and the rest is proved again, until the outputs themselves may differ or a proof is found.

It is tried on the mutant's module first, then on the one around, in which fewer values can occur. A mutant that no such proof is
found for may still change nothing, where states that never occur make the difference.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.support.files import write_file
from sim.mutation.netlists import Mutant, run_yosys

__all__ = ["contexts", "proved_equivalent"]

_MOST_MODULES = 2
"""Modules, from the inside out, in which a proof is tried: larger ones take minutes."""

_MOST_CELLS = 600
"""Of such a module, with all that is in it; a larger one is left out."""

_MOST_ROUNDS = 3
"""How often registers are taken out of the supposition before a proof is given up."""

_STATE = {"$dff": (("Q",), ("D",)), "$memrd_v2": (("DATA",), ("ADDR", "EN")), "$memwr_v2": ((), ("ADDR", "DATA", "EN"))}
"""Cells that hold state: ports that give it, and ports that decide what it will be."""

_UNTIMED = ("$meminit", "$meminit_v2", "$scopeinfo")

_Bits = list[int | str]


def contexts(module: str) -> list[str]:
    """The modules in which a proof is tried: a module and what is around it, from the inside out."""
    found = [module]
    while "." in found[-1] and len(found) < _MOST_MODULES:
        found.append(found[-1].rpartition(".")[0])
    return found


def proved_equivalent(prepared: Path, mutants: Sequence[Mutant], folder: Path) -> dict[int, str]:
    """Which of the mutants change nothing; of each, by its place in the sequence, the module in which that is proved.

    What is written goes below ``folder``, which is one below that of ``prepared``.
    """
    found: dict[int, str] = {}
    for level in range(_MOST_MODULES):
        asked = {
            number: contexts(mutant.module)[level]
            for number, mutant in enumerate(mutants)
            if number not in found and level < len(contexts(mutant.module))
        }
        if asked:
            here = folder / f"level-{level}"
            pairs = _netlists(prepared, mutants, asked, here)
            found |= {number: asked[number] for number in _proved(pairs, here)}
    return found


def _netlists(
    prepared: Path, mutants: Sequence[Mutant], asked: Mapping[int, str], folder: Path
) -> dict[int, "_Pair"]:
    """The module without and with each mutant, flat."""
    folder.mkdir(parents=True, exist_ok=True)
    here = folder.relative_to(prepared.parent)
    write = "hierarchy -top {module}\nflatten\nopt_expr\nopt_clean\nwrite_json {path}\n"
    tops = {module: number for number, module in enumerate(sorted(set(asked.values())))}
    script = [f"read_rtlil {prepared.name}\ndesign -save base\n"]
    for module, number in tops.items():
        script.append("design -load base\n" + write.format(module=module, path=here / f"good-{number}.json"))
    for number, module in asked.items():
        mutate = f"design -load base\nmutate {mutants[number].command}\n"
        script.append(mutate + write.format(module=module, path=here / f"bad-{number}.json"))
    run_yosys("".join(script), prepared.parent, f"{folder.name}-netlists")

    def module_of(path: Path, module: str) -> dict[str, Any]:
        return dict(json.loads(path.read_text())["modules"][module])

    return {
        number: _Pair(
            module_of(folder / f"good-{tops[module]}.json", module), module_of(folder / f"bad-{number}.json", module)
        )
        for number, module in asked.items()
    }


def _proved(pairs: Mapping[int, "_Pair"], folder: Path) -> Iterator[int]:
    """The numbers of those pairs that are equal."""
    left = {number: pair for number, pair in pairs.items() if len(pair.good["cells"]) <= _MOST_CELLS}
    for turn in range(_MOST_ROUNDS):
        if not left:
            return
        script = []
        for number, pair in left.items():
            path = folder / f"miter-{number}.json"
            write_file(path, json.dumps(pair.miter()))
            show = "sat -prove bad 0 -show differs miter"
            script.append(f"design -reset\nread_json {path.name}\nlog ===== {number}\n{show}\n")
        told = run_yosys("".join(script), folder, f"sat-{turn}")
        for number, text in zip(left, re.split(r"^===== \d+\n", told, flags=re.MULTILINE)[1:], strict=True):
            pair = left[number]
            if "no model found: SUCCESS!" in text:
                yield number
            elif pair.takes_out(_shown(text)):
                continue
            left = {other: each for other, each in left.items() if other != number}


def _shown(text: str) -> int:
    """The value of ``differs`` in the model that Yosys found."""
    match = re.search(r"^\s+\\?differs\s+\S+\s+\S+\s+([01x]+)", text, re.MULTILINE)
    return int(match[1].replace("x", "0"), 2) if match else 0


@dataclass
class _Pair:
    """A module without a fault, and with it, as Yosys' JSON has them."""

    good: dict[str, Any]
    bad: dict[str, Any]
    apart: set[str] = field(default_factory=set)
    """Cells whose states may differ."""

    def __post_init__(self) -> None:
        self._names: list[str] = []

    def takes_out(self, differing: int) -> bool:
        """Suppose no longer that what differs is equal; False where that is an output, or nothing."""
        names = {name for number, name in enumerate(self._names) if differing >> number & 1}
        if not names or "" in names:
            return False
        self.apart |= names
        return True

    def miter(self) -> dict[str, Any]:
        """Both as one module without states: ``bad`` is 1 where anything differs, ``differs`` has a bit for each thing."""
        good, bad = _Cut(self.good, 0), _Cut(self.bad, 1 + _highest(self.good))
        self._take_out_reads(good, bad)
        shared = dict[int | str, int | str]()
        compared: list[tuple[str, _Bits, _Bits]] = []
        for port, bits in good.inputs.items():
            shared |= zip(bad.inputs.get(port, []), bits, strict=False)
        for port, bits in good.outputs.items():
            compared.append(("", bits, bad.outputs[port]))
        for name, (given, taken) in good.states.items():
            if name in bad.states and name not in self.apart:
                shared |= zip(bad.states[name][0], given, strict=True)
                compared.append((name, taken, bad.states[name][1]))
        return _joined(good, bad, shared, compared, self._names)


    def _take_out_reads(self, good: "_Cut", bad: "_Cut") -> None:
        """What is read of a memory may differ where what is written may."""
        written = {name for name in good.writes | bad.writes if name not in good.writes.keys() & bad.writes.keys() - self.apart}
        memories = {(good.writes | bad.writes)[name] for name in written}
        self.apart |= {name for name, memory in (good.reads | bad.reads).items() if memory in memories}


class _Cut:
    """A flat module whose states are inputs, and what they become outputs; its nets numbered from a number on."""

    def __init__(self, module: Mapping[str, Any], offset: int) -> None:
        def moved(bits: _Bits) -> _Bits:
            return [bit + offset if isinstance(bit, int) else bit for bit in bits]

        ports = {name: (port["direction"], moved(port["bits"])) for name, port in module["ports"].items()}
        self.inputs = {name: bits for name, (direction, bits) in ports.items() if direction == "input"}
        self.outputs = {name: bits for name, (direction, bits) in ports.items() if direction == "output"}
        self.cells: dict[str, Any] = {}
        self.states: dict[str, tuple[_Bits, _Bits]] = {}
        # Of which memory.
        self.reads: dict[str, str] = {}
        self.writes: dict[str, str] = {}
        for name, cell in module["cells"].items():
            connections = {port: moved(bits) for port, bits in cell["connections"].items()}
            if cell["type"] in _STATE:
                given, taken = _STATE[cell["type"]]
                if cell["type"] != "$dff":
                    of = self.reads if cell["type"] == "$memrd_v2" else self.writes
                    of[name] = cell["parameters"]["MEMID"]
                self.states[name] = tuple(  # type: ignore[assignment]
                    [bit for port in ports_ for bit in connections[port]] for ports_ in (given, taken)
                )
            elif cell["type"] not in _UNTIMED:
                self.cells[name] = cell | {"connections": connections}


def _highest(module: Mapping[str, Any]) -> int:
    nets = [bit for net in module["netnames"].values() for bit in net["bits"] if isinstance(bit, int)]
    pins = [bit for cell in module["cells"].values() for bits in cell["connections"].values() for bit in bits]
    return max([*nets, *(bit for bit in pins if isinstance(bit, int)), 1])


def _joined(
    good: _Cut,
    bad: _Cut,
    shared: Mapping[int | str, int | str],
    compared: Sequence[tuple[str, _Bits, _Bits]],
    names: list[str],
) -> dict[str, Any]:
    def put(bits: _Bits) -> _Bits:
        return [shared.get(bit, bit) if isinstance(bit, int) else bit for bit in bits]

    cells = {f"good.{name}": cell for name, cell in good.cells.items()}
    for name, cell in bad.cells.items():
        cells[f"bad.{name}"] = cell | {"connections": {port: put(bits) for port, bits in cell["connections"].items()}}
    free = [bit for cut in (good, bad) for bits in cut.inputs.values() for bit in put(bits)]
    free += [bit for cut in (good, bad) for given, _ in cut.states.values() for bit in put(given)]
    inputs = sorted({bit for bit in free if isinstance(bit, int)})
    pins = [bit for cell in cells.values() for bits in cell["connections"].values() for bit in bits]
    number = max([bit for bit in [*pins, *inputs] if isinstance(bit, int)], default=1) + 1
    differs: _Bits = []
    names.clear()
    for name, one, other in compared:
        if not one or (other := put(other)) == one:
            continue
        width = max(len(one), len(other))
        sides: dict[str, _Bits] = {"A": _wide(one, width), "B": _wide(other, width)}
        cells[f"compared.{number}"] = _cell("$ne", sides, number)
        names.append(name)
        differs.append(number)
        number += 1
    if not differs:
        # All that is compared is the same net.
        differs = ["0"]
    cells["any"] = _cell("$reduce_or", {"A": differs}, number)
    ports = {
        "free": {"direction": "input", "bits": inputs},
        "differs": {"direction": "output", "bits": differs},
        "bad": {"direction": "output", "bits": [number]},
    }
    if not inputs:
        del ports["free"]
    return {"modules": {"miter": {"ports": ports, "cells": cells, "netnames": {}}}}


def _wide(bits: _Bits, width: int) -> _Bits:
    return [*bits, *["0"] * (width - len(bits))]


def _cell(kind: str, sides: Mapping[str, _Bits], output: int) -> dict[str, Any]:
    parameters = {f"{port}_SIGNED": 0 for port in sides} | {f"{port}_WIDTH": len(bits) for port, bits in sides.items()}
    return {
        "type": kind,
        "parameters": parameters | {"Y_WIDTH": 1},
        "attributes": {},
        "port_directions": {**dict.fromkeys(sides, "input"), "Y": "output"},
        "connections": {**sides, "Y": [output]},
    }
