"""`python -m boards.table FOLDER ...`: what builds found, as one table: a row of each folder's ``report.json``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model.support.cli import FolderPath, command
from model.support.errors import BadInputError

if TYPE_CHECKING:
    from boards.build_table import BuildRow

__all__ = ["main"]


@command(help="One table of what builds found, from the folders that they wrote to.")
@click.argument("folders", nargs=-1, required=True, type=FolderPath())
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON on standard output.")
def main(folders: tuple[Path, ...], as_json: bool) -> None:
    """See the help text above."""
    from boards.build_table import table

    rows = [_row(folder / "report.json") for folder in folders]
    print(json.dumps([asdict(row) for row in rows], indent=2) if as_json else table(rows))


def _row(path: Path) -> BuildRow:
    from boards.build_table import BuildRow, read_found

    made_by = "python -m hw.build"
    found = read_found(path, made_by)
    try:
        return BuildRow.of(found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(f"{path}: must be what {made_by} writes: {error}") from None


if __name__ == "__main__":
    main()
