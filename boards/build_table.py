"""What builds found, as rows of a table."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from boards.definitions import board_named
from model.support.errors import BadInputError
from model.support.files import checked_json, opened

__all__ = ["COLUMNS", "BuildRow", "check_figures", "read_found", "table"]

_TOO_LARGE = 1e15
"""No figure of a build comes near it."""

COLUMNS = (
    "board",
    "network",
    "plan, lanes",
    "LUT of",
    "FF",
    "blocks of",
    "clock",
    "after routing",
    "cycles per frame",
    "frames per second",
    "RTL = golden model",
)


@dataclass(frozen=True, kw_only=True)
class BuildRow:
    """What a build found.

    Parameters
    ----------
    board, network, plan : str
        Their names.
    lanes : int
        Lanes of the plan.
    luts, luts_available, flip_flops, ram_blocks, ram_blocks_available : int
        What the design takes, and what the device has.
    clock_mhz : float
        Clock of the machine.
    fmax_mhz : list of float
        Clock that routing allows, of each seed, ascending; 0 where it does not route.
    cycles_per_frame_mean : float
        Cycles per frame.
    frames_per_second : int
        At the machine's clock.
    frames_verified, spikes_compared, differences : int
        Of the comparison of the RTL with the golden model and the cycle model.
    """

    board: str
    network: str
    plan: str
    lanes: int
    luts: int
    luts_available: int
    flip_flops: int
    ram_blocks: int
    ram_blocks_available: int
    clock_mhz: float
    fmax_mhz: list[float]
    cycles_per_frame_mean: float
    frames_per_second: int
    frames_verified: int
    spikes_compared: int
    differences: int

    @classmethod
    def of(cls, report: dict[str, Any]) -> "BuildRow":
        """The row of a build's ``report.json``.

        Raises
        ------
        ValueError
            If there is no such board, or a figure or a name is none that a build writes.
        KeyError, TypeError
            If it is not a report of a build.
        """
        board = board_named(report["board"])
        row = cls(
            board=board.name,
            network=report["network"],
            plan=report["plan"],
            lanes=report["lanes"],
            luts=report["lut"],
            luts_available=board.luts,
            flip_flops=report["ff"],
            ram_blocks=report["ram_blocks"],
            ram_blocks_available=board.ram_blocks,
            clock_mhz=report["clock_mhz"],
            fmax_mhz=sorted(report["fmax_mhz_by_seed"].values()),
            cycles_per_frame_mean=report["cycles_per_frame_mean"],
            frames_per_second=report["frames_per_second"],
            frames_verified=report["frames_verified"],
            spikes_compared=report["spikes_compared"],
            differences=report["mismatches"] + report["cycle_mismatches"],
        )
        names = ("board", "network", "plan", "fmax_mhz")
        check_figures(value for name, value in asdict(row).items() if name not in names)
        check_figures(row.fmax_mhz)
        if not row.fmax_mhz:
            raise ValueError("fmax_mhz_by_seed must hold the clock of one seed or more")
        for named in (row.network, row.plan):
            if not isinstance(named, str) or not named.isprintable() or "|" in named:
                raise ValueError(f"a name must be of printable characters, without |, not {str(named)[:40]!r}")
        return row

    @property
    def clocks(self) -> str:
        """Of each seed, for people."""
        return ", ".join(f"{mhz:g}" if mhz else "not routed" for mhz in self.fmax_mhz)

    @property
    def cells(self) -> tuple[str, ...]:
        """For people, in the order of `COLUMNS`."""
        return (
            f"`{self.board}`",
            self.network,
            f"{self.plan}, {self.lanes}",
            f"{self.luts:,} of {self.luts_available:,}",
            f"{self.flip_flops:,}",
            f"{self.ram_blocks} of {self.ram_blocks_available}",
            f"{self.clock_mhz:g} MHz",
            f"{self.clocks} MHz",
            f"{self.cycles_per_frame_mean:,.1f}",
            f"{self.frames_per_second:,}",
            f"{self.frames_verified} frames, {self.spikes_compared:,} spikes, {self.differences} differ",
        )


def read_found(path: Path, made_by: str) -> dict[str, Any]:
    """What a command found, as its file has it.

    Raises
    ------
    BadInputError
        There is no such file, or it is not JSON of an object.
    """
    try:
        with opened(path) as file:
            found = checked_json(file.read())
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read, {made_by} writes it: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{path}: must be what {made_by} writes: {error}") from None
    return found


def check_figures(values: Iterable[object]) -> None:
    """See that all ``values`` are numbers that a count, a clock or a share can be.

    Raises
    ------
    TypeError
        One is none.
    ValueError
        One is less than 0, not a number, or too large to be meant.
    """
    for value in values:
        if type(value) not in (int, float):
            raise TypeError(f"a figure must be a number, not {value!r}")
        if not 0 <= value < _TOO_LARGE:  # type: ignore[operator]
            raise ValueError(f"a figure must be from 0 to below {_TOO_LARGE:g}, not {str(value)[:20]}")


def table(rows: list[BuildRow]) -> str:
    """The rows as a table in Markdown."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *(row.cells for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
