"""What FPGA families differ in, said once: synthesis, place and route, clocks, constraints, bitstreams, names of resources."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from amaranth.hdl import Instance, Module, Signal, Value

from model.machine.plan import Plan, PlanError
from model.support.errors import BadInputError

__all__ = ["SOON", "Cells", "Clock", "ConstraintError", "Direct", "Family", "Part", "Pin", "fastest", "sections"]

SOON = ("--placer-heap-cell-placement-timeout", "100")
"""Arguments of nextpnr by which it gives up on a device that is too full in some minutes: by default it tries for an hour. With
"500" it gave up on designs that fill nine tenths of an iCE40, and have a place for every cell."""


class ConstraintError(BadInputError):
    """A pin asks for what its family's constraint file cannot say."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A device.

    Parameters
    ----------
    number : str
        By which one orders it.
    device, package, speed : str
        As the family's place and route calls them; empty where it does not ask.
    """

    number: str
    device: str
    package: str
    speed: str


@dataclass(frozen=True, kw_only=True)
class Pin:
    """Where a port of the top goes.

    Parameters
    ----------
    port : str
        Its name, with an index where it is a bit of several.
    site : str
        Name of the pin.
    standard : str
        Electrical standard.
    pull_up : bool
        Hold it at 1 where nobody drives it.
    """

    port: str
    site: str
    standard: str
    pull_up: bool = False


@dataclass(frozen=True)
class Clock(ABC):
    """How the machine's clock is made of the board's.

    Parameters
    ----------
    output_hz : float
        What comes out.
    """

    output_hz: float

    @abstractmethod
    def instance(self, *, input_hz: float, source: Value, clock: Value, locked: Signal) -> Instance | Module:
        """What makes ``clock`` of ``source``, and ``locked`` 1 where it is steady."""


@dataclass(frozen=True)
class Direct(Clock):
    """The board's clock as it is."""

    def instance(self, *, input_hz: float, source: Value, clock: Value, locked: Signal) -> Module:
        m = Module()
        m.d.comb += [clock.eq(source), locked.eq(1)]
        return m


C = TypeVar("C", bound=Clock)


def fastest(clocks: Sequence[C], *, wanted_hz: float, least: str) -> C:
    """The clock with the greatest frequency, of equal ones the first.

    Parameters
    ----------
    clocks : sequence of Clock
        What can be made, none of it above ``wanted_hz``.
    wanted_hz : float
        What was asked for, for the message.
    least : str
        What a clock must be at least, for the message.

    Raises
    ------
    BadInputError
        If there is none.
    """
    if not clocks:
        raise BadInputError(f"clock must be at least {least}, not {wanted_hz / 1e6:g} MHz")
    return max(clocks, key=lambda clock: clock.output_hz)


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Cells of a netlist, or of a routed design.

    Parameters
    ----------
    lut : int
        LUTs, with what carry chains take of them, without LUT RAMs.
    ff : int
        Flip-flops.
    lut_ram : int
        LUT RAMs.
    ram_blocks, dsp : int
        Memory blocks and multipliers.
    """

    lut: int
    ff: int
    lut_ram: int
    ram_blocks: int
    dsp: int


class Family(ABC):
    """A family of FPGAs with an open toolchain.

    Attributes
    ----------
    NAME, TITLE : str
        For commands, for people.
    PLACER, PACKER, UNPACKER : str
        Tools (`hw.flow.tools`), beside Yosys.
    CONSTRAINTS, ROUTED, BITSTREAM : str
        Suffixes of files: of constraints, of what place and route writes, and of the bitstream.
    CELL_MODELS : str
        Folder of Yosys' that has models of the cells.
    RAM_BLOCK, RAM_BLOCK_BITS : str, int
        Name and size of a memory block.
    LARGE_BLOCK : str
        Name and size of a large one where there are some.
    HAS_AREA_MODEL : bool
        Whether `hw.flow.area` knows it.
    HAS_LUT_RAM : bool
        Whether RAM can be made of LUTs.
    SETTLE_SECONDS : float
        From configuration until memory blocks can be read.
    SOME_PART : Part | None
        A part for synthesis without a board, where it asks for one.
    """

    NAME: ClassVar[str]
    TITLE: ClassVar[str]
    PLACER: ClassVar[str]
    PACKER: ClassVar[str]
    UNPACKER: ClassVar[str]
    CONSTRAINTS: ClassVar[str]
    ROUTED: ClassVar[str]
    BITSTREAM: ClassVar[str]
    CELL_MODELS: ClassVar[str]
    RAM_BLOCK: ClassVar[str]
    RAM_BLOCK_BITS: ClassVar[int]
    LARGE_BLOCK: ClassVar[str] = ""
    HAS_AREA_MODEL: ClassVar[bool] = False
    HAS_LUT_RAM: ClassVar[bool] = True
    SETTLE_SECONDS: ClassVar[float] = 0.0
    SOME_PART: ClassVar[Part | None] = None

    @property
    def tools(self) -> tuple[str, ...]:
        """What a build runs, in order."""
        return ("yosys", self.PLACER, self.PACKER, self.UNPACKER)

    def check_memories(self, plan: Plan) -> None:
        """Raise `PlanError` with one line where ``plan`` wants RAM made of LUTs and there is none."""
        for core in plan.cores if not self.HAS_LUT_RAM else ():
            for name in ("state_memory", "tag_memory"):
                if getattr(core, name) == "distributed":
                    raise PlanError(
                        f"plan {plan.name!r}: core {core.layer!r}: {name} must not be 'distributed' on an {self.TITLE}, "
                        "which has no RAM made of LUTs"
                    )

    @abstractmethod
    def to_gates(self, top: str, part: Part | None) -> Sequence[str]:
        """Lines of Yosys' script from processes to gates and flip-flops, before LUTs."""

    @abstractmethod
    def to_cells(self, top: str, part: Part | None) -> Sequence[str]:
        """Lines of Yosys' script from gates to cells of the family."""

    def improve(self, module: dict[str, Any]) -> tuple[int, int, list[str]]:
        """Passes of our own over a module of Yosys' JSON netlist, in place.

        Returns
        -------
        Flip-flops that went into block RAMs, cells that are copies, and lines for the log.
        """
        return 0, 0, []

    @abstractmethod
    def count(self, cells: Mapping[str, int]) -> Cells:
        """What a netlist takes, by how many it has of each kind of cell."""

    @abstractmethod
    def luts_needed(self, cells: Cells) -> int:
        """LUTs of the device that a netlist takes at least."""

    @abstractmethod
    def clock(self, part: Part, input_hz: float, wanted_hz: float) -> Clock:
        """What gives the greatest frequency that is not above ``wanted_hz``.

        Raises
        ------
        ValueError : where nothing does
        """

    @abstractmethod
    def constraints(self, pins: Sequence[Pin], *, clock: str, clock_hz: float) -> str:
        """The constraint file: pins, and the frequency of the port ``clock``."""

    @abstractmethod
    def placement(
        self, part: Part, *, netlist: Path, constraints: Path, frequency_mhz: float, seed: int, routed: Path, report: Path
    ) -> list[str]:
        """Arguments of place and route, driven by timing, that go on where the clock is not met."""

    @abstractmethod
    def used(self, utilization: Mapping[str, tuple[int, int]], netlist: Cells) -> Cells:
        """What a routed design takes, by place and route's table of used and available; ``netlist`` for what it leaves out."""

    @abstractmethod
    def pack(self, part: Part, *, routed: Path, bitstream: Path, constraints: Path, log: Path) -> None:
        """Make the bitstream of a routed design.

        Raises
        ------
        ToolError : the tool failed
        """

    @abstractmethod
    def unpack(self, part: Part, *, routed: Path, bitstream: Path, log: Path) -> list[str]:
        """Unpack a bitstream again and compare; gives what differs from the routed design, a line each.

        Raises
        ------
        ToolError : the tool failed
        """


def sections(text: str) -> dict[str, list[str]]:
    """A configuration of Trellis or IceStorm by section: a line that starts with a dot, and the lines after it.

    Of two that start alike, the lines of both.
    """
    found: dict[str, list[str]] = defaultdict(list)
    name = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("."):
            name = line[1:]
            found[name] += []
        elif line:
            found[name].append(line)
    return dict(found)
