"""Gowin's GW1N and GW2A: Yosys, nextpnr-himbaechel, Project Apicula.

Block RAM is read without the register at its output: in the chips of the Tang Nano 9K and Primer 20K that register works at a
width of 32 or 36 bits only, and the tools make flip-flops of it at others. Flip-flops after a memory stay flip-flops here.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.hdl import Const, Instance, Signal, Value

from hw.flow.families.base import SOON, Cells, Clock, Direct, Family, Part, Pin, fastest
from hw.flow.tools import run_tool
from model.machine.blocks import BSRAM
from model.support.errors import BadInputError

__all__ = ["GOWIN", "Pll", "clock_for"]

_OPTIONS = "-nodsp -nowidelut"

_DSP = ("MULT", "ALU54", "PADD")
"""How cells of DSP blocks begin."""

_BLOCKS = ("SDP", "DP", "SP", "pROM", "ROM")
"""How memory blocks begin, as cells; `RAM16` are LUTs."""

_TABLE = re.compile(r"^defparam R(\d+)C(\d+)_LUT4_(\d)\.INIT = 16'h([0-9a-f]+);", re.MULTILINE)
"""Row, column, place and contents of a LUT in what `gowin_unpack` writes."""

_DIVIDERS = (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)


@dataclass(frozen=True)
class _Limits:
    """Frequencies of a PLL, in Hz (data sheets DS117 and DS102)."""

    detector: tuple[float, float]
    oscillator: tuple[float, float]
    output: tuple[float, float]


_LIMITS = {
    "GW1N": _Limits((3e6, 400e6), (400e6, 1200e6), (3.125e6, 600e6)),
    "GW2A": _Limits((3e6, 500e6), (500e6, 1250e6), (3.90625e6, 625e6)),
}


@dataclass(frozen=True)
class Pll(Clock):
    """Dividers of an rPLL, feedback inside.

    ``output = input / (idiv + 1) * (fbdiv + 1)``; the oscillator runs at ``output * odiv``.
    """

    device: str
    idiv: int
    fbdiv: int
    odiv: int

    def instance(self, *, input_hz: float, source: Value, clock: Value, locked: Signal) -> Instance:
        return Instance(
            "rPLL",
            p_FCLKIN=f"{input_hz / 1e6:g}",
            p_DEVICE=self.device,
            p_IDIV_SEL=self.idiv,
            p_FBDIV_SEL=self.fbdiv,
            p_ODIV_SEL=self.odiv,
            p_DYN_IDIV_SEL="false",
            p_DYN_FBDIV_SEL="false",
            p_DYN_ODIV_SEL="false",
            p_CLKFB_SEL="internal",
            i_CLKIN=source,
            i_CLKFB=0,
            i_RESET=0,
            i_RESET_P=0,
            i_FBDSEL=Const(0, 6),
            i_IDSEL=Const(0, 6),
            i_ODSEL=Const(0, 6),
            i_PSDA=Const(0, 4),
            i_DUTYDA=Const(0, 4),
            i_FDLY=Const(0, 4),
            o_CLKOUT=clock,
            o_LOCK=locked,
        )


def clock_for(part: Part, input_hz: float, wanted_hz: float) -> Clock:
    """Dividers for the greatest frequency that is not above ``wanted_hz``, or the input itself, if that is the one.

    Raises
    ------
    BadInputError : where there is none
    """
    limits = _LIMITS[_series(part)]
    found = [
        Pll(output, part.device, idiv, fbdiv, odiv)
        for idiv in range(64)
        for fbdiv in range(64)
        for odiv in _DIVIDERS
        if limits.detector[0] <= (detector := input_hz / (idiv + 1)) <= limits.detector[1]
        and limits.output[0] <= (output := detector * (fbdiv + 1)) <= min(wanted_hz, limits.output[1])
        and limits.oscillator[0] < output * odiv < limits.oscillator[1]
    ]
    direct = [Direct(input_hz)] if input_hz <= wanted_hz else []
    least = f"{limits.output[0] / 1e6:g} MHz and within the PLL's reach"
    return fastest([*direct, *found], wanted_hz=wanted_hz, least=least)


def _series(part: Part) -> str:
    return part.device.split("-")[0]


class _Gowin(Family):
    NAME = "gowin"
    SOME_PART = Part(number="GW1NR-LV9QN88PC6/I5", device="GW1N-9C", package="QN88P", speed="C6/I5")
    TITLE = "Gowin"
    PLACER = "nextpnr-himbaechel-gowin"
    PACKER = "gowin_pack"
    UNPACKER = "gowin_unpack"
    CONSTRAINTS = ".cst"
    ROUTED = ".routed"
    BITSTREAM = ".fs"
    CELL_MODELS = "gowin"
    RAM_BLOCK = "BSRAM, 18 kbit"
    RAM_BLOCK_BITS = BSRAM.bits

    def to_gates(self, top: str, part: Part | None) -> Sequence[str]:
        return [f"synth_gowin {self._options(top, part)} -run begin:map_luts"]

    def to_cells(self, top: str, part: Part | None) -> Sequence[str]:
        # Ports of several bits stay so, as constraints name their bits.
        return [f"synth_gowin {self._options(top, part)} -run map_luts:vout"]

    def _options(self, top: str, part: Part | None) -> str:
        if part is None:
            raise BadInputError("part must be given for Gowin: GW1N and GW2A differ in their cells")
        return f"{_OPTIONS} -family {_series(part).lower()} -top {top}"

    def count(self, cells: Mapping[str, int]) -> Cells:
        def sum_of(*starts: str) -> int:
            return sum(count for kind, count in cells.items() if kind.startswith(starts))

        return Cells(
            lut=sum_of("LUT") + cells.get("ALU", 0),
            ff=sum_of("DFF"),
            lut_ram=sum_of("RAM16"),
            ram_blocks=sum_of(*_BLOCKS),
            dsp=sum_of(*_DSP),
        )

    def luts_needed(self, cells: Cells) -> int:
        return cells.lut + 4 * cells.lut_ram

    def clock(self, part: Part, input_hz: float, wanted_hz: float) -> Clock:
        return clock_for(part, input_hz, wanted_hz)

    def constraints(self, pins: Sequence[Pin], *, clock: str, clock_hz: float) -> str:
        """CST, as nextpnr-himbaechel and Gowin's own tools read it; neither takes frequencies from it."""
        lines = [
            f'IO_LOC "{pin.port}" {pin.site};\n'
            f'IO_PORT "{pin.port}" IO_TYPE={pin.standard}{" PULL_MODE=UP" if pin.pull_up else ""};'
            for pin in pins
        ]
        return "\n".join(lines) + "\n"

    def placement(
        self, part: Part, *, netlist: Path, constraints: Path, frequency_mhz: float, seed: int, routed: Path, report: Path
    ) -> list[str]:
        return [
            "--device",
            part.number,
            "--vopt",
            f"family={part.device}",
            "--vopt",
            f"cst={constraints}",
            "--json",
            str(netlist),
            "--freq",
            f"{frequency_mhz:g}",
            "--seed",
            str(seed),
            "--timing-allow-fail",
            *SOON,
            "--write",
            str(routed),
            "--report",
            str(report),
        ]

    def used(self, utilization: Mapping[str, tuple[int, int]], netlist: Cells) -> Cells:
        return Cells(
            lut=utilization["LUT4"][0] + utilization["ALU"][0],
            # The table counts flip-flops that LUT RAMs make useless, too.
            ff=netlist.ff,
            lut_ram=netlist.lut_ram,
            ram_blocks=utilization["BSRAM"][0],
            dsp=sum(used for kind, (used, _) in utilization.items() if kind.startswith(_DSP)),
        )

    def pack(self, part: Part, *, routed: Path, bitstream: Path, constraints: Path, log: Path) -> None:
        run_tool("gowin_pack", ["-d", part.device, "-o", bitstream, routed], log=log)

    def unpack(self, part: Part, *, routed: Path, bitstream: Path, log: Path) -> list[str]:
        unpacked = bitstream.with_name(f"{bitstream.name}.unpacked")
        run_tool("gowin_unpack", ["-d", part.device, "-o", unpacked, bitstream], log=log)
        text = unpacked.read_text()
        unpacked.unlink()
        cells = json.loads(routed.read_text())["modules"]["top"]["cells"].values()
        found = {(f"X{int(x) - 1}Y{int(y) - 1}/LUT{z}"): int(bits, 16) for y, x, z, bits in _TABLE.findall(text)}
        # Unpacked configurations leave out LUTs that are constants.
        wanted = {
            cell["attributes"]["NEXTPNR_BEL"]: table
            for cell in cells
            if re.fullmatch("LUT[1-4]", cell["type"]) and (table := _table(cell)) not in (0, 0xFFFF)
        }
        different = [place for place in {**wanted, **found} if wanted.get(place) != found.get(place)]
        for kind in ("RAM16SDP4", "OBUF"):
            there, here = sum(cell["type"] == kind for cell in cells), len(re.findall(rf"^{kind} ", text, re.MULTILINE))
            if there != here:
                different.append(f"{kind}: {there} in the routed design, {here} in the bitstream")
        return different


def _table(cell: Mapping[str, Any]) -> int:
    """The table of a LUT of up to four inputs as one of four, the others of which do not matter."""
    entries = 1 << int(cell["type"][3])
    table = int(cell["parameters"]["INIT"], 2) & (1 << entries) - 1
    return sum(table << place for place in range(0, 16, entries))


GOWIN: Family = _Gowin()
"""The family."""
