"""iCE40 UltraPlus (Lattice): Yosys, nextpnr-ice40, Project IceStorm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from amaranth.hdl import Instance, Signal, Value

from hw.flow.families.base import SOON, Cells, Clock, ConstraintError, Direct, Family, Part, Pin, fastest, sections
from hw.flow.tools import run_tool
from model.machine.blocks import SB_RAM40_4K

__all__ = ["ICE40", "Pll", "clock_for", "filter_range"]

_OPTIONS = "-device u"

_DELAY_PS = 20_000
"""Delay that ABC may leave, in picoseconds. Without it ABC buys the shortest delay that there is with LUTs, which are few; most
clocks here are at 24 MHz or below."""

_LEGALIZE = (
    "dfflegalize -mince 8 -minsrst 64 -cell $_DFF_?_ 0 -cell $_DFFE_?P_ 0 -cell $_DFF_?P?_ 0 -cell $_DFFE_?P?P_ 0 "
    "-cell $_SDFF_?P?_ 0 -cell $_SDFFCE_?P?P_ 0"
)
"""The eight cells of a tile share an enable and a reset. Groups of flip-flops that do not fill one leave cells that nothing else
can have, and placement finds no place for them."""

_FILTERS = ((17e6, 1), (26e6, 2), (44e6, 3), (66e6, 4), (101e6, 5))
"""Upper bounds of the phase detector's frequency, and the loop filter for it."""

_STANDARD = "LVCMOS33"
"""What all pins of a bank at 3.3 V are; constraints cannot say another."""


@dataclass(frozen=True)
class Pll(Clock):
    """Dividers of an SB_PLL40_PAD, simple feedback (Lattice TN1251).

    ``output = input / (divr + 1) * (divf + 1) / 2 ** divq``; the oscillator, ``output * 2 ** divq``, runs at 533 to 1066 MHz.
    """

    divr: int
    divf: int
    divq: int
    filter_range: int

    def instance(self, *, input_hz: float, source: Value, clock: Value, locked: Signal) -> Instance:
        return Instance(
            "SB_PLL40_PAD",
            p_FEEDBACK_PATH="SIMPLE",
            p_PLLOUT_SELECT="GENCLK",
            p_DIVR=self.divr,
            p_DIVF=self.divf,
            p_DIVQ=self.divq,
            p_FILTER_RANGE=self.filter_range,
            i_PACKAGEPIN=source,
            i_RESETB=1,
            i_BYPASS=0,
            o_PLLOUTGLOBAL=clock,
            o_LOCK=locked,
        )


def filter_range(detector_hz: float) -> int:
    """The loop filter for a frequency of the phase detector."""
    return next((number for bound, number in _FILTERS if detector_hz < bound), 6)


def clock_for(input_hz: float, wanted_hz: float) -> Clock:
    """Dividers for the greatest frequency that is not above ``wanted_hz``, or the input itself, if that is the one.

    Raises
    ------
    BadInputError : where there is none
    """
    found = [
        Pll(output, divr, divf, divq, filter_range(detector))
        for divr in range(16)
        for divf in range(128)
        for divq in range(1, 7)
        if 10e6 <= (detector := input_hz / (divr + 1)) <= 133e6
        and 533e6 <= (oscillator := detector * (divf + 1)) <= 1066e6
        and 16e6 <= (output := oscillator / 2**divq) <= min(wanted_hz, 275e6)
    ]
    direct = [Direct(input_hz)] if input_hz <= wanted_hz else []
    least = f"the board's {input_hz / 1e6:g} MHz, or what the PLL makes of it from 16 MHz on"
    return fastest([*direct, *found], wanted_hz=wanted_hz, least=least)


class _Ice40(Family):
    NAME = "ice40"
    TITLE = "iCE40"
    PLACER = "nextpnr-ice40"
    PACKER = "icepack"
    UNPACKER = "iceunpack"
    CONSTRAINTS = ".pcf"
    ROUTED = ".asc"
    BITSTREAM = ".bin"
    CELL_MODELS = "ice40"
    RAM_BLOCK = "SB_RAM40_4K, 4 kbit"
    RAM_BLOCK_BITS = SB_RAM40_4K.bits
    LARGE_BLOCK = "SPRAM, 256 kbit"
    HAS_LUT_RAM = False
    # Memory blocks read as 0 for some microseconds after configuration, whatever they hold.
    SETTLE_SECONDS = 20e-6

    def to_gates(self, top: str, part: Part | None) -> Sequence[str]:
        return [
            # There is no RAM made of LUTs: Yosys may take blocks where a memory allows it, and flip-flops where not.
            "setattr -unset ram_style a:ram_style=distributed",
            f"synth_ice40 {_OPTIONS} -top {top} -run begin:map_ffs",
            _LEGALIZE,
            f"synth_ice40 {_OPTIONS} -top {top} -run map_ffs:map_luts",
        ]

    def to_cells(self, top: str, part: Part | None) -> Sequence[str]:
        return [f"scratchpad -set abc9.D {_DELAY_PS}", f"synth_ice40 {_OPTIONS} -top {top} -run map_luts:"]

    def count(self, cells: Mapping[str, int]) -> Cells:
        def sum_of(start: str) -> int:
            return sum(count for kind, count in cells.items() if kind.startswith(start))

        return Cells(
            lut=cells.get("SB_LUT4", 0),
            ff=sum_of("SB_DFF"),
            lut_ram=0,
            ram_blocks=sum_of("SB_RAM40_4K"),
            dsp=cells.get("SB_MAC16", 0),
        )

    def luts_needed(self, cells: Cells) -> int:
        # A logic cell has one of each, and they need not belong together.
        return max(cells.lut, cells.ff)

    def clock(self, part: Part, input_hz: float, wanted_hz: float) -> Clock:
        return clock_for(input_hz, wanted_hz)

    def constraints(self, pins: Sequence[Pin], *, clock: str, clock_hz: float) -> str:
        """PCF, as nextpnr-ice40 reads it."""
        for pin in pins:
            if pin.standard != _STANDARD:
                raise ConstraintError(f"pin {pin.port} must be {_STANDARD} on an iCE40, not {pin.standard!r}")
        lines = [f"set_io {'-pullup yes ' if pin.pull_up else ''}{pin.port} {pin.site}" for pin in pins]
        return "\n".join([*lines, f"set_frequency {clock} {clock_hz / 1e6:g}"]) + "\n"

    def placement(
        self, part: Part, *, netlist: Path, constraints: Path, frequency_mhz: float, seed: int, routed: Path, report: Path
    ) -> list[str]:
        return [
            f"--{part.device}",
            "--package",
            part.package,
            "--json",
            str(netlist),
            "--pcf",
            str(constraints),
            "--freq",
            f"{frequency_mhz:g}",
            "--seed",
            str(seed),
            "--timing-allow-fail",
            *SOON,
            "--asc",
            str(routed),
            "--report",
            str(report),
        ]

    def used(self, utilization: Mapping[str, tuple[int, int]], netlist: Cells) -> Cells:
        return Cells(
            lut=utilization["ICESTORM_LC"][0],
            ff=netlist.ff,
            lut_ram=0,
            ram_blocks=utilization["ICESTORM_RAM"][0],
            dsp=utilization["ICESTORM_DSP"][0],
        )

    def pack(self, part: Part, *, routed: Path, bitstream: Path, constraints: Path, log: Path) -> None:
        run_tool("icepack", [routed, bitstream], log=log)

    def unpack(self, part: Part, *, routed: Path, bitstream: Path, log: Path) -> list[str]:
        unpacked = bitstream.with_name(f"{bitstream.name}.unpacked")
        run_tool("iceunpack", [bitstream, unpacked], log=log)
        wanted, found = (sections(path.read_text()) for path in (routed, unpacked))
        unpacked.unlink()
        names = [name for name in {**wanted, **found} if name.split()[:1] not in (["comment"], ["sym"])]
        return [name for name in names if _bits(wanted.get(name, [])) != _bits(found.get(name, []))]


def _bits(lines: Sequence[str]) -> list[str]:
    """The bits of a tile; a memory block of zeros need not be there."""
    return [] if not any(line.strip("0") for line in lines) else list(lines)


ICE40: Family = _Ice40()
"""The family."""
