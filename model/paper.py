"""The paper's Table I and Figures 2 to 4 by one command: `python -m model.paper`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from model.reports.markdown import with_table
from model.support.choices import PAPER_SGD
from model.support.cli import FilePath, FolderPath, OutFolder, command, make_console, make_table, progress_bar
from model.support.errors import BadInputError
from model.support.files import check_writable_folder, write_all, write_file
from model.support.results import to_json

if TYPE_CHECKING:
    from model.studies.paper.results import PaperStudy


@command(help="The paper's Table I, Figures 2 to 4 and claims, measured: our figures beside the published ones.")
@click.option("--dataset", default="mnist", show_default=True, metavar="DATA", help="mnist, digits5k, cifar10 or an .npz file.")
@click.option("--data-dir", type=FolderPath(), help="First folder to look for the files of MNIST and CIFAR-10 in.")
@click.option(
    "--network",
    type=FilePath(),
    default=PAPER_SGD,
    help="ONNX file of the paper's own rows; by default the bundled paper-sgd.onnx.",
)
@click.option("--frames", type=click.IntRange(1), help="Only this many frames of the test split, the first ones; all by default.")
@click.option(
    "--detail", default=1000, show_default=True, type=click.IntRange(1), help="Frames whose spikes are looked at one by one."
)
@click.option(
    "--out", default=Path("build/paper"), show_default=True, type=OutFolder(), help="Folder for paper.json, .html."
)
@click.option("--docs", type=OutFolder(), help="Folder with paper.md, whose tables are written anew, and figures in img/.")
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
    network: Path,
    frames: int | None,
    detail: int,
    out: Path,
    docs: Path | None,
    cache: Path,
    as_json: bool,
) -> None:
    """See the help text above."""
    from model.reports.paper.page import docs_tables, figure_files, paper_page
    from model.studies.paper.study import study
    from model.support.datasets import load

    console = make_console(stderr=True)
    if not network.is_file():
        raise BadInputError(
            f"--network must be an ONNX file that is there, not {str(network)!r}: "
            "python -m model.paper_networks paper-sgd trains one"
        )
    data, calibration = (load(dataset, split, data_dir) for split in ("test", "train"))
    data = data.limited(frames)
    # The study takes minutes: what cannot be written is better known before.
    for folder in (out, cache):
        write_all(folder, {})
    text = _page_to_fill(docs) if docs else ""
    if console.is_terminal:
        with progress_bar(console) as bar:
            found = study(network, data, calibration, detail=detail, cache=cache, bar=bar)
    else:
        found = study(network, data, calibration, detail=detail, cache=cache)
    write_all(out, {"paper.json": to_json(found), "paper.html": paper_page(found)})
    if docs:
        for name, table in docs_tables(found).items():
            text = _filled(docs, text, name, table)
        write_file(docs / "paper.md", text)
        write_all(docs / "img", figure_files(found))
    if as_json:
        print(to_json(found), end="")
        return
    _print(found)
    print(f"plots: {out / 'paper.html'}")


def _page_to_fill(docs: Path) -> str:
    """What stands in the page, which has to have a place for each table."""
    from model.reports.paper.page import DOCS_TABLES

    try:
        text = (docs / "paper.md").read_text()
    except OSError as error:
        raise BadInputError(f"--docs must be a folder with a page paper.md, not {str(docs)!r}: {error.strerror}") from None
    for name in DOCS_TABLES:
        _filled(docs, text, name, "")
    check_writable_folder("--docs", docs / "img")
    return text


def _filled(docs: Path, text: str, name: str, table: str) -> str:
    try:
        return with_table(text, name, table)
    except ValueError as error:
        raise BadInputError(f"{docs / 'paper.md'}: {error}") from None


def _print(found: PaperStudy) -> None:
    from model.reports.paper.page import table_one

    table = table_one(found)
    shown = make_table(title=f"Table I, {found.frames:,} frames of {found.dataset}", title_justify="left")
    for title in table.titles:
        shown.add_column(title)
    for cells in table.rows:
        shown.add_row(*cells)
    make_console(width_in_file=220).print(shown)


if __name__ == "__main__":
    main()
