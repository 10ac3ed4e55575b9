"""The netlist that a build would place, as Verilog that a simulator reads: of a machine, with models of its cells.

Synthesis is the build's (`hw/flow/synthesis.py`), of the machine alone: no board, no UART. Its traces become outputs, since
nothing of their names would be left otherwise. The cells behave as the models that come with Yosys say; of block RAM it
has none for ECP5 and Gowin, and `sim/cells/dp16kd.v` and `sim/cells/gowin_bsram.v` are ours.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hw
from hw.flow.families.base import Family, Part
from hw.flow.families.ecp5 import ECP5
from hw.flow.synthesis import synthesize
from hw.flow.tools import tool_version, yosys_share
from hw.flow.verilog import machine_rtlil
from hw.machines import AnyMachine
from model.support.cache import kept, source_hash
from sim.simulators import SimulationError

__all__ = ["BLOCK_RAM", "GOWIN_BLOCK_RAM", "IGNORED", "Netlist", "cell_models", "machine_netlist", "net_names", "netlist_verilog"]

BLOCK_RAM = Path(__file__).parent / "cells" / "dp16kd.v"
"""Our model of the ECP5's block RAM."""

GOWIN_BLOCK_RAM = Path(__file__).parent / "cells" / "gowin_bsram.v"
"""Our models of Gowin's."""

_OWN = {
    "DP16KD": BLOCK_RAM,
    **dict.fromkeys(("SP", "SPX9", "SDPB", "SDPX9B", "DPB", "DPX9B"), GOWIN_BLOCK_RAM),
    "ALU": Path(__file__).parent / "cells" / "gowin_alu.v",
}
"""Cells of which Yosys has no model that every simulator reads, and where ours are."""

IGNORED = ("$scopeinfo",)
"""Cells that say something of the netlist and are no part of it."""

_INCLUDE = re.compile(r'^`include "([^"]+)"', re.MULTILINE)
_MODULE = re.compile(r"^module\s+(\S+?)\s*[(;].*?^endmodule", re.MULTILINE | re.DOTALL)
_TIMING = re.compile(r"^\s*specify\b.*?^\s*endspecify\b", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Netlist:
    """A netlist after synthesis, to be simulated.

    Parameters
    ----------
    module : Mapping[str, Any]
        Module ``machine`` as Yosys' JSON has it.
    verilog : str
        The same, of cells only.
    models : str
        The cells.
    cells : Mapping[str, int]
        How many there are of each.
    """

    module: Mapping[str, Any]
    verilog: str
    models: str
    cells: Mapping[str, int]


def machine_netlist(
    machine: AnyMachine,
    *,
    cache: Path,
    log: Path,
    line: Callable[[str], None] | None = None,
    family: Family = ECP5,
    part: Part | None = None,
) -> Netlist:
    """The netlist of ``machine``, synthesized where the folder ``cache`` does not have it yet.

    Parameters
    ----------
    machine : AnyMachine
        What to synthesize.
    cache : Path
        Folder in which netlists are kept by content.
    log : Path
        Yosys' output, where it ran.
    line : Callable[[str], None] | None
        Called with each line of it.
    family, part : Family, Part | None
        For what it is synthesized; where the family asks for a part and none is given, one of its own.

    Raises
    ------
    SimulationError : there is no model of a cell
    MultiplierError, ToolError : as `synthesize`
    """
    expose = [f"trace_{trace.name}_{part}" for trace in machine.traces for part in ("strobe", "payload")]
    # WebAssembly builds of Yosys do not see every folder, but always those below the one that they run in.
    folder = Path(os.path.relpath(cache))
    source = machine_rtlil(machine.network, machine.plan, folder)
    passes = source_hash(Path(hw.__path__[0]))
    part = part or family.SOME_PART
    content = (source.name, expose, tool_version("yosys"), passes, family.NAME, part.device if part else None)
    key = hashlib.sha256(repr(content).encode()).hexdigest()[:16]
    netlist = kept(
        folder / f"machine-netlist-{key}.json",
        lambda written: synthesize(
            source, top="machine", netlist=written, log=log, line=line, expose=expose, family=family, part=part
        ),
    )
    module = json.loads(netlist.read_text())["modules"]["machine"]
    cells = Counter(cell["type"] for cell in module["cells"].values() if cell["type"] not in IGNORED)
    return Netlist(module=module, verilog=netlist_verilog(module, "machine"), models=cell_models(cells, family), cells=cells)


def net_names(module: Mapping[str, Any]) -> dict[int, str]:
    """Of each net of a module of Yosys' JSON netlist, by its number, what `netlist_verilog` calls it: an input, or a wire."""
    ports = module["ports"]
    nets: dict[int, str] = {}
    for port, of in ports.items():
        if of["direction"] == "input":
            nets |= {bit: f"\\{port} " + (f"[{n}]" if len(of["bits"]) > 1 else "") for n, bit in enumerate(of["bits"])}
    taken = set(ports)
    for net, of in module["netnames"].items():
        for n, bit in enumerate(of["bits"]):
            if isinstance(bit, int) and bit not in nets:
                # The name of a bit has its brackets in it; where a name is taken, the number of the net does.
                wire = net if len(of["bits"]) == 1 else f"{net}[{n}]"
                wire = f"net${bit}" if wire in taken else wire
                taken.add(wire)
                nets[bit] = f"\\{wire} "
    return nets


def netlist_verilog(module: Mapping[str, Any], name: str, *, more: Sequence[str] = ()) -> str:
    """Verilog of a module of Yosys' JSON netlist, called ``name``: each net a wire of one bit, each cell an instance.

    Parameters
    ----------
    module, name : Mapping[str, Any], str
        The module.
    more : Sequence[str]
        Lines to stand at its end, which may name nets as `net_names` does.
    """
    ports, nets = module["ports"], net_names(module)
    inputs = {bit for of in ports.values() if of["direction"] == "input" for bit in of["bits"]}
    wires = [f"  wire {wire};" for bit, wire in nets.items() if bit not in inputs]

    def value(bits: Iterable[int | str]) -> str:
        found = [nets[bit] if isinstance(bit, int) else f"1'b{bit}" for bit in bits]
        return found[0] if len(found) == 1 else f"{{{', '.join(reversed(found))}}}"

    instances = [
        f"  {cell['type']} #({', '.join(f'.{key}({_constant(text)})' for key, text in cell['parameters'].items())}) "
        f"\\{cell_name} ({', '.join(f'.{port}({value(bits)})' for port, bits in cell['connections'].items())});"
        for cell_name, cell in module["cells"].items()
        if cell["type"] not in IGNORED
    ]
    outputs = [f"  assign \\{port} = {value(of['bits'])};" for port, of in ports.items() if of["direction"] == "output"]
    header = ", ".join(
        of["direction"] + (f" [{len(of['bits']) - 1}:0]" if len(of["bits"]) > 1 else "") + f" \\{port} "
        for port, of in ports.items()
    )
    return "\n".join([f"module {name}({header});", *wires, *instances, *outputs, *more, "endmodule", ""])


def _constant(value: str | int) -> str:
    """A parameter as Yosys writes it: bits, or a text, with a space after it where it looks like bits."""
    if isinstance(value, int):
        return str(value)
    if value and set(value) <= set("01xz"):
        return f"{len(value)}'b{value}"
    return f'"{value[:-1] if value.endswith(" ") else value}"'


def cell_models(cells: Iterable[str], family: Family = ECP5) -> str:
    """Verilog of these kinds of cells and of what they consist of; without their timing, which not every simulator reads.

    Parameters
    ----------
    cells : Iterable[str]
        Names of cells.
    family : Family
        Whose they are.

    Raises
    ------
    SimulationError : there is no model of a cell
    """
    library = yosys_share() / family.CELL_MODELS / "cells_sim.v"
    models = {name: _TIMING.sub("", text) for name, text in _library(library).items()}
    own = sorted({_OWN[name] for name in cells if name in _OWN})
    found: dict[str, str] = {}
    wanted = sorted(name for name in cells if name not in _OWN)
    while wanted:
        name = wanted.pop()
        if name not in models:
            raise SimulationError(f"there is no model of cell {name}")
        if name not in found:
            found[name] = models[name]
            wanted += [part for part in models if re.search(rf"^\s*{re.escape(part)}\s+[#\w]", found[name], re.MULTILINE)]
    texts = [*(found[name] for name in sorted(found)), *(path.read_text().rstrip("\n") for path in own)]
    return _defines(library) + "\n\n".join(texts) + "\n"


def _defines(path: Path) -> str:
    """What the models of a file have defined before the first; inputs without defaults, which not every simulator reads."""
    lines = path.read_text().split("\nmodule ")[0].splitlines()
    found = [line for line in lines if line.startswith("`") and not line.startswith(("`timescale", "`include"))]
    return "\n".join(["`define NO_ICE40_DEFAULT_ASSIGNMENTS", *found, "", ""]) if found else ""


def _library(path: Path) -> dict[str, str]:
    """The modules of a file and of those that it includes, by name."""
    text = path.read_text()
    found = {match[1]: match[0] for match in _MODULE.finditer(text)}
    for included in _INCLUDE.findall(text):
        found = _library(path.parent / included) | found
    return found
