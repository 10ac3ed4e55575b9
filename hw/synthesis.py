"""Synthesis and place and route for ECP5, and what must hold on the way: no multiplier, it fits, it meets its clock."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hw.fanout import split_fan_out
from hw.outreg import pack_output_registers
from hw.tools import ToolError, run_tool
from model.errors import DoesNotFitError

__all__ = [
    "MultiplierError",
    "Placed",
    "Synthesized",
    "place_and_route",
    "synthesize",
]

_MULTIPLIERS = ("$mul", "$macc", "$div", "$mod", "$pow")
"""Cells that must not exist before technology mapping."""

_DSP = ("MULT18X18D", "ALU54B")

_OPTIONS = "-nodsp -nowidelut"
"""Without the selections between LUTs, a machine takes an eighth fewer of them, and placement has no clusters of them to keep."""

_LEGALIZE = (
    "dfflegalize -minsrst 500 -cell $_DFF_?_ 01 -cell $_DFF_?P?_ r -cell $_SDFF_?P?_ r "
    "-cell $_DFFE_??_ 01 -cell $_DFFE_?P??_ r -cell $_SDFFE_?P??_ r"
)
"""Only large groups of flip-flops have a reset input, above all that of the whole machine. Slices share one, so that each small
group for which Yosys finds another, where a word is chosen or zero, needs slices of its own: placement then takes an hour."""


class MultiplierError(RuntimeError):
    """A multiplier or a DSP block crept in."""


@dataclass(frozen=True, kw_only=True)
class Synthesized:
    """What synthesis gave.

    Parameters
    ----------
    lut : LUT4s; carry cells count two
    ff : flip-flops
    lut_ram : LUT RAMs, of four LUTs each
    ram_blocks, dsp : block RAMs and multiplier cells
    output_registers : flip-flops that went into block RAMs
    copies : LUTs and flip-flops that are copies, so that no net has too many sinks
    """

    lut: int
    ff: int
    lut_ram: int
    ram_blocks: int
    dsp: int
    output_registers: int
    copies: int


@dataclass(frozen=True, kw_only=True)
class Placed:
    """What place and route gave.

    Parameters
    ----------
    fmax_mhz : of the machine's clock, after routing
    slices_lut, slices_ff : TRELLIS_COMB and TRELLIS_FF cells
    ram_blocks, dsp : DP16KD and multiplier cells
    utilization : of each kind of cell, used and available
    critical_path : the slowest path, one hop an entry
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
) -> Synthesized:
    """Synthesize for ECP5 into the JSON ``netlist``, which is what gets placed.

    Parameters
    ----------
    source, top : what to synthesize: the file, RTLIL where it ends in ``.il`` and otherwise Verilog, and its top module
    netlist, log : files to write
    line : called with each line that Yosys prints
    expose : wires of the top that become outputs of it, so that a testbench sees them

    Raises
    ------
    MultiplierError : a multiplier before technology mapping, or a DSP block after
    ToolError : Yosys failed
    """
    part = netlist.with_suffix(".part")
    selection = " ".join(f"t:{cell}" for cell in _MULTIPLIERS)
    # Nets are split before ABC: it names new ones after bits of old ones, and trips over names that exist already.
    script = "; ".join(
        [
            f"{'read_rtlil' if source.suffix == '.il' else 'read_verilog'} {source}",
            f"hierarchy -top {top}",
            *([f"expose {' '.join(f'{top}/w:{name}' for name in expose)}"] if expose else []),
            "proc",
            f"select -assert-none {selection}",
            f"synth_ecp5 {_OPTIONS} -top {top} -run begin:map_ffs",
            _LEGALIZE,
            f"synth_ecp5 {_OPTIONS} -top {top} -run map_ffs:map_luts",
            f"select -assert-none {selection}",
            "splitnets",
            f"synth_ecp5 {_OPTIONS} -top {top} -run map_luts:",
            f"write_json {part}",
        ]
    )
    script_file = netlist.with_suffix(".ys")
    script_file.write_text(script.replace("; ", "\n") + "\n")
    try:
        # Less than the default: it lists every cell that it maps, which is a hundred megabytes for a large machine.
        run_tool("yosys", ["-v", "3", "-s", str(script_file)], log=log, line=line)
    except ToolError as error:
        if "selection is not empty" in error.log.lower():
            raise MultiplierError(f"a multiplication ({', '.join(_MULTIPLIERS)}) is in the design; see {log}") from None
        raise
    design = json.loads(part.read_text())
    module = design["modules"][top]
    packed, registers = pack_output_registers(module)
    split, copies = split_fan_out(module)
    cells = Counter(cell["type"] for cell in module["cells"].values())
    dsp = sum(cells[kind] for kind in _DSP)
    if dsp:
        part.unlink()
        raise MultiplierError(f"{dsp} DSP blocks are in the netlist; see {log}")
    part.write_text(json.dumps(design))
    part.replace(netlist)
    with log.open("a") as file:
        file.write(f"\n{registers} flip-flops went into the output registers of {packed} block RAM ports.\n")
        file.write(f"{copies} copies of LUTs and flip-flops split {split} nets.\n")
    return Synthesized(
        lut=cells["LUT4"] + 2 * cells["CCU2C"],
        ff=cells["TRELLIS_FF"],
        lut_ram=cells["TRELLIS_DPR16X4"],
        ram_blocks=cells["DP16KD"] + cells["PDPW16KD"],
        dsp=dsp,
        output_registers=registers,
        copies=copies,
    )


def place_and_route(
    netlist: Path,
    *,
    device: str,
    package: str,
    speed: int,
    lpf: str,
    frequency_mhz: float,
    seed: int,
    config: Path,
    log: Path,
    line: Callable[[str], None] | None = None,
) -> Placed:
    """Place and route, driven by timing, into the text ``config``. Whether it is fast enough is for the caller to say.

    Raises
    ------
    DoesNotFitError : names what is short, and by how many
    ToolError : anything else
    """
    constraints, report = config.with_suffix(".lpf"), config.with_suffix(".report")
    constraints.write_text(lpf)
    part = config.with_suffix(".part")
    report.unlink(missing_ok=True)
    try:
        output = run_tool(
            "nextpnr-ecp5",
            [
                f"--{device}",
                "--package",
                package,
                "--speed",
                str(speed),
                "--json",
                str(netlist),
                "--lpf",
                str(constraints),
                "--freq",
                f"{frequency_mhz:g}",
                "--seed",
                str(seed),
                "--router",
                "router2",
                "--timing-allow-fail",
                "--textcfg",
                str(part),
                "--report",
                str(report),
            ],
            log=log,
            line=line,
        )
    except ToolError as error:
        over = [
            f"{name} ({used} of {there})" for name, (used, there) in _utilization(error.log).items() if used > there
        ]
        if over or "no BELs remaining" in error.log or "Unable to place cell" in error.log:
            raise DoesNotFitError(
                f"the design does not fit device {device}: needs more {', '.join(over) if over else 'cells than it has'}; "
                f"see {log}"
            ) from None
        raise
    found = json.loads(report.read_text())
    clocks = {name: clock for name, clock in found["fmax"].items()}
    if not clocks:
        raise ToolError(f"nextpnr reports no clock; see {log}", output)
    slowest = min(clocks.values(), key=lambda clock: clock["achieved"] / clock["constraint"])
    part.replace(config)
    paths = [
        path for path in found["critical_paths"] if path["from"].startswith("posedge") and path["to"] == path["from"]
    ]
    longest = max(paths, key=lambda path: sum(hop["delay"] for hop in path["path"]), default=None)
    utilization = _utilization(output)
    return Placed(
        fmax_mhz=round(slowest["achieved"], 2),
        slices_lut=utilization["TRELLIS_COMB"][0],
        slices_ff=utilization["TRELLIS_FF"][0],
        ram_blocks=utilization["DP16KD"][0],
        dsp=sum(utilization.get(kind, (0, 0))[0] for kind in _DSP),
        utilization={name: counts for name, counts in utilization.items() if counts[0]},
        critical_path=[
            f"{hop['delay']:.2f} ns {hop['type']} {hop['from']['cell']} -> {hop['to']['cell']}"
            for hop in (longest["path"] if longest else [])
        ],
    )


def _utilization(log: str) -> dict[str, tuple[int, int]]:
    found = re.findall(r"Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%", log)
    return {name: (int(used), int(there)) for name, used, there in found}
