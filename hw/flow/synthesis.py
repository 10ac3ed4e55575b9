"""Synthesis and place and route, and what must hold on the way: no multiplier, it fits, it meets its clock.

What families differ in is theirs (`hw.flow.families.base`).
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hw.flow.families.base import Cells, Family, Part
from hw.flow.families.ecp5 import ECP5
from hw.flow.routing import RoutingError, RoutingWatch
from hw.flow.tools import ToolError, run_tool
from model.support.errors import DoesNotFitError, MismatchError
from model.support.files import check_room, naming, replacing, write_file

__all__ = [
    "MultiplierError",
    "Placed",
    "Synthesized",
    "place_and_route",
    "synthesize",
]

_MULTIPLIERS = ("$mul", "$macc", "$div", "$mod", "$pow")
"""Cells that must not exist before technology mapping."""

_NO_ROOM = ("no BELs remaining", "Unable to place cell")
"""What nextpnr says where it runs out of cells."""

_NO_PLACE = (
    "Unable to find legal placement",
    "Unable to find a placement location",
    "failed to place chain",
    "after relative constraint legalisation",
)
"""What it says where there are cells, but it finds none that suits a cell or a carry chain."""


class MultiplierError(MismatchError):
    """A multiplier or a DSP block crept in."""


@dataclass(frozen=True, kw_only=True)
class Synthesized(Cells):
    """What synthesis gave.

    Parameters
    ----------
    lut
        LUT4s; carry cells count as the LUTs that they take.
    ff
        Flip-flops.
    lut_ram
        LUT RAMs, of four LUTs each.
    ram_blocks, dsp
        Block RAMs and multiplier cells.
    output_registers : int
        Flip-flops that went into block RAMs.
    copies : int
        LUTs and flip-flops that are copies, so that no net has too many sinks.
    """

    output_registers: int
    copies: int


@dataclass(frozen=True, kw_only=True)
class Placed:
    """What place and route gave.

    Parameters
    ----------
    fmax_mhz : float
        Of the machine's clock, after routing.
    slices_lut, slices_ff : int
        LUTs and flip-flops, in the family's cells.
    ram_blocks, dsp : int
        Memory blocks and multiplier cells.
    utilization : dict[str, tuple[int, int]]
        Of each kind of cell, used and available.
    critical_path : list[str]
        The slowest path, one hop an entry.
    """

    fmax_mhz: float
    slices_lut: int
    slices_ff: int
    ram_blocks: int
    dsp: int
    utilization: dict[str, tuple[int, int]]
    critical_path: list[str]


def synthesize(
    source: Path,
    *,
    top: str,
    netlist: Path,
    log: Path,
    line: Callable[[str], None] | None = None,
    expose: Sequence[str] = (),
    family: Family = ECP5,
    part: Part | None = None,
) -> Synthesized:
    """Synthesize into the JSON ``netlist``, which is what gets placed.

    Parameters
    ----------
    source, top : Path, str
        What to synthesize: the file, RTLIL where it ends in ``.il`` and otherwise Verilog, and its top module.
    netlist, log : Path
        Files to write.
    line : Callable[[str], None] | None
        Called with each line that Yosys prints.
    expose : Sequence[str]
        Wires of the top that become outputs of it, so that a testbench sees them.
    family, part : Family, Part | None
        For what; only families whose devices differ in their cells need the part.

    Raises
    ------
    MultiplierError : a multiplier before technology mapping, or a DSP block after
    ToolError : Yosys failed
    """
    with replacing(netlist) as part_file:
        return _synthesized(
            source, top=top, written=part_file, script_file=netlist.with_suffix(".ys"), log=log, line=line, expose=expose,
            family=family, part=part,
        )


def _synthesized(
    source: Path,
    *,
    top: str,
    written: Path,
    script_file: Path,
    log: Path,
    line: Callable[[str], None] | None,
    expose: Sequence[str],
    family: Family,
    part: Part | None,
) -> Synthesized:
    """Synthesize into the file ``written``, which its caller puts in place."""
    selection = " ".join(f"t:{cell}" for cell in _MULTIPLIERS)
    # Nets are split before ABC: it names new ones after bits of old ones, and trips over names that exist already.
    script = "; ".join(
        [
            f"{'read_rtlil' if source.suffix == '.il' else 'read_verilog'} {source}",
            f"hierarchy -top {top}",
            *([f"expose {' '.join(f'{top}/w:{name}' for name in expose)}"] if expose else []),
            "proc",
            f"select -assert-none {selection}",
            *family.to_gates(top, part),
            f"select -assert-none {selection}",
            "splitnets",
            *family.to_cells(top, part),
            f"write_json {written}",
        ]
    )
    write_file(script_file, script.replace("; ", "\n") + "\n")
    try:
        # Less than the default: it lists every cell that it maps, which is a hundred megabytes for a large machine.
        run_tool("yosys", ["-v", "3", "-s", str(script_file)], log=log, line=line)
    except ToolError as error:
        if "selection is not empty" in error.log.lower():
            raise MultiplierError(f"a multiplication ({', '.join(_MULTIPLIERS)}) is in the design; see {log}") from None
        raise
    check_room(written)
    design = json.loads(written.read_text())
    module = design["modules"][top]
    registers, copies, remarks = family.improve(module)
    cells = family.count(Counter(cell["type"] for cell in module["cells"].values()))
    if cells.dsp:
        raise MultiplierError(f"{cells.dsp} DSP blocks are in the netlist; see {log}")
    written.write_text(json.dumps(design))
    with naming(log), log.open("a") as file:
        file.write("".join(["\n", *(f"{remark}\n" for remark in remarks)]))
    return Synthesized(
        lut=cells.lut,
        ff=cells.ff,
        lut_ram=cells.lut_ram,
        ram_blocks=cells.ram_blocks,
        dsp=cells.dsp,
        output_registers=registers,
        copies=copies,
    )


def place_and_route(
    netlist: Path,
    *,
    family: Family,
    part: Part,
    constraints: str,
    frequency_mhz: float,
    seed: int,
    routed: Path,
    log: Path,
    cells: Cells,
    line: Callable[[str], None] | None = None,
) -> Placed:
    """Place and route, driven by timing, into the file ``routed``. Whether it is fast enough is for the caller to say.

    Parameters
    ----------
    netlist : Path
        What to place.
    family, part : Family, Part
        Where.
    constraints : str
        Text of the constraint file.
    frequency_mhz : float
        Clock to aim at.
    seed : int
        Of placement.
    routed, log : Path
        Files to write.
    cells : Cells
        What the netlist takes.
    line : Callable[[str], None] | None
        Called with each line that the tool prints.

    Raises
    ------
    DoesNotFitError : names what is short, and by how many
    RoutingError : there is room, but the placer finds no place for a cell, or the router gets nowhere
    ToolError : anything else
    """
    watch = RoutingWatch()

    def look(text: str) -> None:
        if line:
            line(text)
        watch.look(text)

    constraint_file, report = routed.with_suffix(family.CONSTRAINTS), routed.with_suffix(".report")
    write_file(constraint_file, constraints)
    report.unlink(missing_ok=True)
    with replacing(routed) as written:
        args = family.placement(
            part,
            netlist=netlist,
            constraints=constraint_file,
            frequency_mhz=frequency_mhz,
            seed=seed,
            routed=written,
            report=report,
        )
        try:
            output = run_tool(family.PLACER, args, log=log, line=look)
        except ToolError as error:
            over = [f"{name} ({used} of {there})" for name, (used, there) in _utilization(error.log).items() if used > there]
            if over or any(sign in error.log for sign in _NO_ROOM):
                raise DoesNotFitError(
                    f"the design does not fit device {part.device}: needs more "
                    f"{', '.join(over) if over else 'cells than it has'}; see {log}"
                ) from None
            if any(sign in error.log for sign in _NO_PLACE):
                raise RoutingError(
                    "the placer does not find a place for every cell; "
                    f"try fewer lanes, another --seed or more --seeds; see {log}"
                ) from None
            raise
        check_room(written)
        found = json.loads(report.read_text())
        clocks = {name: clock for name, clock in found["fmax"].items()}
        if not clocks:
            raise ToolError(f"nextpnr reports no clock; see {log}", output)
    slowest = min(clocks.values(), key=lambda clock: clock["achieved"] / clock["constraint"])
    paths = [
        path for path in found["critical_paths"] if path["from"].startswith("posedge") and path["to"] == path["from"]
    ]
    longest = max(paths, key=lambda path: sum(hop["delay"] for hop in path["path"]), default=None)
    utilization = _utilization(output)
    used = family.used(utilization, cells)
    return Placed(
        fmax_mhz=round(slowest["achieved"], 2),
        slices_lut=used.lut,
        slices_ff=used.ff,
        ram_blocks=used.ram_blocks,
        dsp=used.dsp,
        utilization={name: counts for name, counts in utilization.items() if counts[0]},
        critical_path=[
            f"{hop['delay']:.2f} ns {hop['type']} {hop['from']['cell']} -> {hop['to']['cell']}"
            for hop in (longest["path"] if longest else [])
        ],
    )



def _utilization(log: str) -> dict[str, tuple[int, int]]:
    found = re.findall(r"Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%", log)
    return {name: (int(used), int(there)) for name, used, there in found}
