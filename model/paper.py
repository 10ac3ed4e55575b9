"""The paper's Table I and Figures 2 to 4 by one command: `python -m model.paper`."""

from pathlib import Path

import click
from rich.table import Table

from model.reports.paper_page import figure_files, paper_page, table_one
from model.studies.paper import study
from model.studies.paper_results import PaperStudy
from model.support.cli import FolderPath, OutFolder, command, make_console, progress_bar
from model.support.datasets import load
from model.support.files import write_all
from model.support.results import to_json


@command(help="The paper's Table I and Figures 2 to 4: sigma-delta, rate code and time to first spike, measured.")
@click.option("--dataset", default="mnist", show_default=True, metavar="DATA", help="mnist, digits5k or an .npz file.")
@click.option("--data-dir", type=FolderPath(), help="First folder to look for the MNIST files in.")
@click.option("--frames", type=click.IntRange(1), help="Only this many frames of the test split, the first ones; all by default.")
@click.option("--detail", default=1000, show_default=True, type=click.IntRange(1), help="Frames whose every spike is looked at.")
@click.option(
    "--out", default=Path("build/paper"), show_default=True, type=OutFolder(), help="Folder for paper.json, .html."
)
@click.option("--docs", type=OutFolder(), help="Folder for the figures as paper-*.svg; none by default.")
@click.option(
    "--cache",
    default=Path("build/cache/paper"),
    show_default=True,
    type=OutFolder(),
    help="Folder in which results are kept, so that a second run is quick.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(
    dataset: str,
    data_dir: Path | None,
    frames: int | None,
    detail: int,
    out: Path,
    docs: Path | None,
    cache: Path,
    as_json: bool,
) -> None:
    """See the help text above."""
    console = make_console(stderr=True)
    data, calibration = (load(dataset, split, data_dir) for split in ("test", "train"))
    data = data.limited(frames)
    # The study takes minutes: what cannot be written is better known before.
    for folder in (out, cache, *((docs,) if docs else ())):
        write_all(folder, {})
    if console.is_terminal:
        with progress_bar(console) as bar:
            found = study(data, calibration, detail=detail, cache=cache, bar=bar)
    else:
        found = study(data, calibration, detail=detail, cache=cache)
    write_all(out, {"paper.json": to_json(found), "paper.html": paper_page(found)})
    if docs:
        write_all(docs, figure_files(found))
    if as_json:
        print(to_json(found), end="")
        return
    _print(found)
    print(f"plots: {out / 'paper.html'}")


def _print(found: PaperStudy) -> None:
    table = table_one(found)
    shown = Table(title=f"Table I, {found.frames:,} frames of {found.dataset}", title_justify="left")
    for title in table.titles:
        shown.add_column(title)
    for cells in table.rows:
        shown.add_row(*cells)
    make_console(width_in_file=220).print(shown)


if __name__ == "__main__":
    main()
