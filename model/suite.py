"""`python -m model.suite`: eleven networks as people train them, float, quantized and spiking, beside a peer's rate code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model.benchmark.entries import ENTRIES, Entry, chosen
from model.benchmark.plan import Plan
from model.reports.markdown import page_to_fill, write_rows
from model.support.choices import DIGITS
from model.support.cli import FilePath, FolderPath, OutFolder, command, make_console, make_table
from model.support.files import write_all
from model.support.results import to_json

if TYPE_CHECKING:
    from model.benchmark.run import SuiteResult


@dataclass(frozen=True)
class Suite:
    """What `suite.json` says.

    Parameters
    ----------
    dataset : str
        The data.
    networks : tuple of SuiteResult
        Of each network, what was found.
    """

    dataset: str
    networks: tuple[SuiteResult, ...]


def _networks(context: click.Context, parameter: click.Parameter, value: str) -> tuple[Entry, ...]:
    try:
        return chosen(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@command()
@click.option(
    "--networks", default=",".join(entry.name for entry in ENTRIES), show_default=True, callback=_networks,
    help="Which of them, with commas between their names.",
)
@click.option("--dataset", type=click.Choice(DIGITS), default="mnist", show_default=True, help="Data to train and test on.")
@click.option("--data-dir", type=FolderPath(), help="First folder to look for the MNIST files in.")
@click.option("--seed", default=Plan.seed, show_default=True, type=click.IntRange(0), help="Of the trainings.")
@click.option(
    "--tuning-epochs", default=Plan.tuning_epochs, show_default=True, type=click.IntRange(0),
    help="Passes of fine-tuning; 0 for none.",
)
@click.option(
    "--peer-frames", default=Plan.peer_frames, show_default=True, type=click.IntRange(0),
    help="Test frames on which the peer runs, the first ones; 0 for none.",
)
@click.option("--out", type=OutFolder(), default=Path("build/suite"), show_default=True, help="Folder for all that is made.")
@click.option("--docs", type=FilePath(), help="A page whose tables are written anew; of networks left out, rows stay.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(
    networks: tuple[Entry, ...],
    dataset: str,
    data_dir: Path | None,
    seed: int,
    tuning_epochs: int,
    peer_frames: int,
    out: Path,
    docs: Path | None,
    as_json: bool,
) -> None:
    """Train, convert, fine-tune and measure the networks of the suite; compare with a peer's rate code.

    Every step is kept in the folder by what it was made of, so that a second run does only what changed.
    """
    from model.benchmark.run import run
    from model.benchmark.table import name_of, rows, tables
    from model.support.datasets import load
    from model.support.steps import Steps
    from model.training.common import import_torch, keep_memory

    torch = import_torch()
    torch.set_num_threads(1)
    keep_memory()
    train, test = (load(dataset, split, data_dir) for split in ("train", "test"))
    plan = Plan(seed=seed, tuning_epochs=tuning_epochs, peer_frames=min(peer_frames, len(test)))
    places = [*tables([]), *(["peer"] if plan.peer_frames else [])]
    page = page_to_fill(docs, places) if docs else ""
    results = []
    with Steps(make_console(stderr=True)) as steps:
        for entry in networks:
            with steps.step(entry.name) as tell:
                found = run(entry, out, train, test, plan, calibrate=dataset, data_dir=data_dir, tell=tell)
            results.append(found)
    text = to_json(Suite(dataset, tuple(results)))
    written = tables(results)
    write_all(out, {"suite.json": text, "suite.md": "\n".join(written.values())})
    if docs:
        write_rows(docs, page, written, [entry.name for entry in ENTRIES], name_of)
    if as_json:
        print(text, end="")
        return
    shown = make_table(title=f"{len(test):,} test frames of {dataset}")
    shown.add_column("network")
    for title in ("float", "spiking", "spikes", "accumulations", "MACs", "peer's, in steps", "pixels as a current"):
        shown.add_column(title, justify="right")
    for row in rows(results):
        shown.add_row(*row)
    make_console().print(shown)
    print(f"tables: {out / 'suite.md'}")


if __name__ == "__main__":
    main()
