"""`python -m boards.table FOLDER ...`: what builds found, as one table: a row of each folder's ``report.json``."""

import json
from pathlib import Path
from typing import Any

import click

from boards.definitions import board_named
from model.support.cli import command
from model.support.errors import BadInputError

__all__ = ["COLUMNS", "row", "table"]

COLUMNS = (
    "board",
    "network",
    "plan, lanes",
    "LUT of",
    "FF",
    "blocks of",
    "clock",
    "after routing",
    "cycles a frame",
    "frames a second",
    "RTL = golden model",
)


def row(report: dict[str, Any]) -> tuple[str, ...]:
    """One build's cells, in the order of `COLUMNS`.

    Raises
    ------
    BadInputError : no such board
    KeyError : not a report of a build
    """
    board = board_named(report["board"])
    fmax = sorted(report["fmax_mhz_by_seed"].values())
    differs = report["mismatches"] + report["cycle_mismatches"]
    return (
        f"`{board.name}`",
        report["network"],
        f"{report['plan']}, {report['lanes']}",
        f"{report['lut']:,} of {board.luts:,}",
        f"{report['ff']:,}",
        f"{report['ram_blocks']} of {board.ram_blocks}",
        f"{report['clock_mhz']:g} MHz",
        f"{', '.join(f'{mhz:g}' for mhz in fmax)} MHz",
        f"{report['cycles_per_frame_mean']:,.1f}",
        f"{report['frames_per_second']:,}",
        f"{report['frames_verified']} frames, {report['spikes_compared']:,} spikes, {differs} differ",
    )


def table(reports: list[dict[str, Any]]) -> str:
    """The table, in Markdown."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *map(row, reports)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@command(help="One table of what builds found, from the folders that they wrote to.")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
def main(folders: tuple[Path, ...]) -> None:
    """See the help text above."""
    reports = []
    for folder in folders:
        path = folder / "report.json"
        try:
            report = json.loads(path.read_text())
            row(report)
        except OSError as error:
            raise BadInputError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise BadInputError(f"{path}: must be a report of python -m hw.build: {error}") from None
        reports.append(report)
    print(table(reports))


if __name__ == "__main__":
    main()
