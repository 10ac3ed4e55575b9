"""`python -m boards.records FOLDER ...`: records, each from a folder with what a build, an evaluation and an estimate wrote."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model.reports.markdown import page_to_fill, with_table
from model.support.cli import FilePath, FolderPath, command
from model.support.errors import BadInputError
from model.support.files import write_file

if TYPE_CHECKING:
    from boards.record_table import RecordRow

__all__ = ["main"]


@command(help="A table of records, from folders that hold what a build, an evaluation and an estimate wrote (--out FOLDER each).")
@click.argument("folders", nargs=-1, required=True, type=FolderPath())
@click.option("--docs", type=FilePath(), help="A page whose table is written anew.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as JSON on standard output.")
def main(folders: tuple[Path, ...], docs: Path | None, as_json: bool) -> None:
    """See the help text above."""
    from boards.record_table import table

    page = page_to_fill(docs, ["records"]) if docs else ""
    rows = [_row(folder) for folder in folders]
    if docs:
        write_file(docs, with_table(page, "records", table(rows)))
    print(json.dumps([asdict(row) for row in rows], indent=2) if as_json else table(rows).rstrip())


def _row(folder: Path) -> RecordRow:
    from boards.build_table import read_found
    from boards.record_table import FILES, RecordRow

    found = [read_found(folder / name, made_by) for name, made_by in FILES.items()]
    try:
        return RecordRow.of(*found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(f"{folder}: must hold {', '.join(FILES)} of one network and plan: {error}") from None


if __name__ == "__main__":
    main()
