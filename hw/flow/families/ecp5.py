"""ECP5 (Lattice): Yosys, nextpnr-ecp5, Project Trellis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.hdl import Instance, Signal, Value

from hw.flow.families.base import Cells, Clock, Family, Part, Pin, fastest, sections
from hw.flow.output_registers import pack_output_registers
from hw.flow.split_fan_out import split_fan_out
from hw.flow.tools import run_tool
from model.machine.blocks import DP16KD

__all__ = ["ECP5", "Pll", "pll_for"]

_OPTIONS = "-nodsp -nowidelut"
"""Without the selections between LUTs, a machine takes an eighth fewer of them, and placement has no clusters of them to keep."""

_LEGALIZE = (
    "dfflegalize -minsrst 500 -cell $_DFF_?_ 01 -cell $_DFF_?P?_ r -cell $_SDFF_?P?_ r "
    "-cell $_DFFE_??_ 01 -cell $_DFFE_?P??_ r -cell $_SDFFE_?P??_ r"
)
"""Only large groups of flip-flops have a reset input, above all that of the whole machine. Slices share one, so that each small
group for which Yosys finds another, where a word is chosen or zero, needs slices of its own: placement then takes an hour."""

_DSP = ("MULT18X18D", "ALU54B")

_ONES = "1" * 16
"""A LUT that an unpacked configuration does not mention."""


@dataclass(frozen=True)
class Pll(Clock):
    """Dividers of an EHXPLLL, feedback from the primary output (Lattice TN-02200).

    ``output = input / reference * feedback``; the oscillator, ``output * divider``, runs at 400 to 800 MHz.
    """

    reference: int
    feedback: int
    divider: int

    def instance(self, *, input_hz: float, source: Value, clock: Value, locked: Signal) -> Instance:
        return Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{input_hz / 1e6:g}",
            a_FREQUENCY_PIN_CLKOP=f"{self.output_hz / 1e6:g}",
            p_CLKI_DIV=self.reference,
            p_CLKFB_DIV=self.feedback,
            p_CLKOP_DIV=self.divider,
            p_CLKOP_CPHASE=self.divider - 1,
            p_CLKOP_ENABLE="ENABLED",
            p_FEEDBK_PATH="CLKOP",
            i_CLKI=source,
            i_CLKFB=clock,
            i_RST=0,
            i_STDBY=0,
            o_CLKOP=clock,
            o_LOCK=locked,
        )


def pll_for(input_hz: float, wanted_hz: float) -> Pll:
    """Dividers for the greatest frequency that is not above ``wanted_hz``.

    Raises
    ------
    BadInputError : where there is none
    """
    found = [
        Pll(output, reference, feedback, divider)
        for reference in range(1, 129)
        if input_hz / reference >= 3.125e6
        for feedback in range(1, 81)
        if (output := input_hz / reference * feedback) <= wanted_hz
        for divider in range(1, 129)
        if 400e6 <= output * divider <= 800e6
    ]
    return fastest(found, wanted_hz=wanted_hz, least="3.125 MHz and within the PLL's reach")


class _Ecp5(Family):
    NAME = "ecp5"
    TITLE = "ECP5"
    PLACER = "nextpnr-ecp5"
    PACKER = "ecppack"
    UNPACKER = "ecpunpack"
    CONSTRAINTS = ".lpf"
    ROUTED = ".config"
    BITSTREAM = ".bit"
    CELL_MODELS = "ecp5"
    RAM_BLOCK = "DP16KD, 18 kbit"
    RAM_BLOCK_BITS = DP16KD.bits
    HAS_AREA_MODEL = True

    def to_gates(self, top: str, part: Part | None) -> Sequence[str]:
        return [
            f"synth_ecp5 {_OPTIONS} -top {top} -run begin:map_ffs",
            _LEGALIZE,
            f"synth_ecp5 {_OPTIONS} -top {top} -run map_ffs:map_luts",
        ]

    def to_cells(self, top: str, part: Part | None) -> Sequence[str]:
        return [f"synth_ecp5 {_OPTIONS} -top {top} -run map_luts:"]

    def improve(self, module: dict[str, Any]) -> tuple[int, int, list[str]]:
        packed, registers = pack_output_registers(module)
        split, copies = split_fan_out(module)
        return (
            registers,
            copies,
            [
                f"{registers} flip-flops went into the output registers of {packed} block RAM ports.",
                f"{copies} copies of LUTs and flip-flops split {split} nets.",
            ],
        )

    def count(self, cells: Mapping[str, int]) -> Cells:
        return Cells(
            lut=cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0),
            ff=cells.get("TRELLIS_FF", 0),
            lut_ram=cells.get("TRELLIS_DPR16X4", 0),
            ram_blocks=cells.get("DP16KD", 0) + cells.get("PDPW16KD", 0),
            dsp=sum(cells.get(kind, 0) for kind in _DSP),
        )

    def luts_needed(self, cells: Cells) -> int:
        return cells.lut + 4 * cells.lut_ram

    def clock(self, part: Part, input_hz: float, wanted_hz: float) -> Pll:
        return pll_for(input_hz, wanted_hz)

    def constraints(self, pins: Sequence[Pin], *, clock: str, clock_hz: float) -> str:
        """LPF, as nextpnr-ecp5 and Diamond read it."""
        lines = [
            f'LOCATE COMP "{pin.port}" SITE "{pin.site}";\n'
            f'IOBUF PORT "{pin.port}" IO_TYPE={pin.standard}{" PULLMODE=UP" if pin.pull_up else ""};'
            for pin in pins
        ]
        return "\n".join([*lines, f'FREQUENCY PORT "{clock}" {clock_hz / 1e6:g} MHZ;']) + "\n"

    def placement(
        self, part: Part, *, netlist: Path, constraints: Path, frequency_mhz: float, seed: int, routed: Path, report: Path
    ) -> list[str]:
        return [
            f"--{part.device}",
            "--package",
            part.package,
            "--speed",
            part.speed,
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
            str(routed),
            "--report",
            str(report),
        ]

    def used(self, utilization: Mapping[str, tuple[int, int]], netlist: Cells) -> Cells:
        return Cells(
            lut=utilization["TRELLIS_COMB"][0],
            ff=utilization["TRELLIS_FF"][0],
            lut_ram=netlist.lut_ram,
            ram_blocks=utilization["DP16KD"][0],
            dsp=sum(utilization.get(kind, (0, 0))[0] for kind in _DSP),
        )

    def pack(self, part: Part, *, routed: Path, bitstream: Path, constraints: Path, log: Path) -> None:
        run_tool("ecppack", ["--compress", "--input", str(routed), "--bit", str(bitstream)], log=log)

    def unpack(self, part: Part, *, routed: Path, bitstream: Path, log: Path) -> list[str]:
        unpacked = bitstream.with_name(f"{bitstream.name}.unpacked")
        again = bitstream.with_name(f"{bitstream.name}.again")
        run_tool("ecpunpack", ["--input", str(bitstream), "--textcfg", str(unpacked)], log=log)
        run_tool("ecppack", ["--compress", "--input", str(unpacked), "--bit", str(again)], log=log)
        # What stands for the same bits has several names, and a default has none: LUTs, memories and all bits are compared.
        wanted, found = (sections(path.read_text()) for path in (routed, unpacked))
        different = []
        for name, lines in wanted.items():
            if name.startswith("bram_init"):
                if lines != found.get(name):
                    different.append(name)
            elif tables := _tables(lines):
                there = _tables(found.get(name, []))
                different += [f"{name} {table}" for table, bits in tables.items() if there.get(table, _ONES) != bits]
        if again.read_bytes() != bitstream.read_bytes():
            different.append("bits that are no LUT's")
        unpacked.unlink()
        again.unlink()
        return different


def _tables(lines: Sequence[str]) -> dict[str, str]:
    """Contents of the LUTs of a tile, by name."""
    words = [line.split() for line in lines if line.startswith("word:")]
    return {name: bits for _, name, bits in words if name.endswith(".INIT")}


ECP5: Family = _Ecp5()
"""The family."""
