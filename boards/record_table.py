"""Records: what a board's build, the network's evaluation and the plan's estimate say together."""

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from boards.build_table import BuildRow, check_figures
from boards.definitions import board_named

__all__ = ["COLUMNS", "FILES", "RecordRow", "table"]

FILES = {
    "report.json": "python -m hw.build",
    "evaluate.json": "python -m model.evaluate",
    "estimate.json": "python -m model.estimate",
}
"""What a record's folder holds, each with the command that writes it there."""

COLUMNS = (
    "board",
    "network",
    "accuracy",
    "lanes",
    "LUT, FF, blocks",
    "after routing, each seed",
    "cycles per frame",
    "frames per second",
    "per LUT",
    "energy, modelled",
    "RTL = golden model",
)


@dataclass(frozen=True, kw_only=True)
class RecordRow:
    """A record.

    Parameters
    ----------
    build : BuildRow
        What was placed and routed.
    accuracy : float
        By spike count, a share.
    frames_evaluated : int
        Frames of that.
    cycles_per_frame : float
        By the cycle model, filling and emptying the pipeline included.
    frames_timed : int
        Frames of that.
    energy_nj : float
        Modelled energy of a frame in nanojoules.
    """

    build: BuildRow
    accuracy: float
    frames_evaluated: int
    cycles_per_frame: float
    frames_timed: int
    energy_nj: float

    @classmethod
    def of(cls, report: dict[str, Any], evaluation: dict[str, Any], estimate: dict[str, Any]) -> "RecordRow":
        """The record of one folder's three files.

        Raises
        ------
        ValueError
            They are not of the same network and plan, there is no such board, a figure cannot be, or RTL and golden model differ.
        KeyError, TypeError
            One of them is not what its command writes.
        """
        networks = {found["network_hash"] for found in (report, evaluation, estimate)}
        if len(networks) != 1:
            raise ValueError("all three must be of the same network")
        for name in ("plan", "lanes"):
            if report[name] != estimate[name]:
                raise ValueError(f"estimate.json: {name} must be {report[name]!r}, as in report.json, not {estimate[name]!r}")
        row = cls(
            build=BuildRow.of(report),
            accuracy=evaluation["accuracy_snn"],
            frames_evaluated=evaluation["frames"],
            cycles_per_frame=estimate["cycles_per_frame"],
            frames_timed=estimate["frames"],
            energy_nj=estimate["energy_nj_per_frame"]["total"],
        )
        check_figures(value for name, value in asdict(row).items() if name != "build")
        if row.accuracy > 1:
            raise ValueError(f"evaluate.json: accuracy_snn must be a share, not {row.accuracy:g}")
        if not row.cycles_per_frame:
            raise ValueError("estimate.json: cycles_per_frame must not be 0")
        if not row.build.luts:
            raise ValueError("report.json: lut must not be 0")
        if row.build.differences:
            raise ValueError(f"report.json: RTL and golden model differ in {row.build.differences} places, which is no record")
        return row

    @property
    def median_mhz(self) -> float:
        """The median of the seeds' clocks."""
        return median(self.build.fmax_mhz)

    @property
    def frames_per_second(self) -> float:
        """At that clock."""
        return self.median_mhz * 1e6 / self.cycles_per_frame

    @property
    def cells(self) -> tuple[str, ...]:
        """For people, in the order of `COLUMNS`."""
        build = self.build
        return (
            board_named(build.board).title,
            build.network,
            f"{self.accuracy:.2%} of {self.frames_evaluated:,}".replace("%", " %"),
            f"{build.lanes}",
            f"{build.luts:,}, {build.flip_flops:,}, {build.ram_blocks}",
            f"{build.clocks}; median {self.median_mhz:g} MHz",
            f"{self.cycles_per_frame:,.1f} ({self.frames_timed:,} frames)",
            f"**{self.frames_per_second:,.0f}**",
            f"{self.frames_per_second / build.luts:.2f}",
            f"{self.energy_nj:,.0f} nJ",
            f"{build.frames_verified} frames, {build.spikes_compared:,} spikes, {build.differences} differ",
        )


def table(rows: list[RecordRow]) -> str:
    """The rows as a table in Markdown, the fastest first."""
    ordered = sorted(rows, key=lambda row: -row.frames_per_second)
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *(row.cells for row in ordered)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
