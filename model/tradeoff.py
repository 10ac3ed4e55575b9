"""Accuracy against spikes, and against weight bits, by fine-tuning: `python -m model.tradeoff`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.support.choices import DIGITS, ZOO
from model.support.cli import FilePath, FolderPath, OutFolder, command, make_console, make_table, progress_bar
from model.support.files import write_all
from model.support.results import plain, to_json
from model.training.sparse_settings import SparseSettings

if TYPE_CHECKING:
    from model.studies.tradeoff import Point, Tradeoff


def _numbers(kind: type) -> Any:
    def parse(context: click.Context, parameter: click.Parameter, value: str) -> list[Any]:
        try:
            return [kind(text) for text in value.split(",")]
        except ValueError:
            raise click.BadParameter(f"must be numbers with commas between, not {value!r}") from None

    return parse


@command()
@click.option("--start", type=FilePath(), default=ZOO / "mnist-sparse.onnx", help="A network of --sparse.")
@click.option("--prices", default="0.3,1.3,4,12,40", show_default=True, callback=_numbers(float), help="Prices of an event.")
@click.option("--bits", default="8,6,5,4", show_default=True, callback=_numbers(int), help="Widths of the weights.")
@click.option("--price", default=SparseSettings.event_price, show_default=True, help="Price of an event for --bits.")
@click.option("--epochs", default=1, show_default=True, type=click.IntRange(1), help="Passes over the frames, a point.")
@click.option("--dataset", "name", type=click.Choice(DIGITS), default="mnist", show_default=True, help="Training frames.")
@click.option("--data-dir", type=FolderPath(), help="First folder to look for the MNIST files in.")
@click.option("--out", type=OutFolder(), default=Path("build/tradeoff"), show_default=True, help="Folder.")
@click.option("--docs", type=OutFolder(), help="Folder for a copy of the plot, tradeoff.svg.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(
    start: Path,
    prices: list[float],
    bits: list[int],
    price: float,
    epochs: int,
    name: str,
    data_dir: Path | None,
    out: Path,
    docs: Path | None,
    as_json: bool,
) -> None:
    """Fine-tune at several prices of an event and several weight widths; show accuracy against spikes.

    About two minutes per point on one processor core; points are kept, and made once.
    """
    from model.reports.html import svg
    from model.reports.tradeoff_plot import tradeoff_plot
    from model.studies.tradeoff import study
    from model.support.datasets import load
    from model.training.common import import_torch, keep_memory
    from model.training.paper_network import load_network

    console = make_console(stderr=True)
    common = SparseSettings(epochs=epochs, event_price=price, moments=6, learning_rate=5e-4, keep_thresholds=True)
    at_prices = [replace(common, event_price=value) for value in prices]
    at_bits = [replace(common, weight_bits=value) for value in bits]
    import_torch().set_num_threads(1)
    keep_memory()
    dataset = load(name, "train", data_dir)
    load_network(start)
    with progress_bar(console) as bar:
        task = bar.add_task("points", total=len(prices) + len(bits))

        def tell(point: Point) -> None:
            bar.advance(task)
            if not console.is_terminal:
                click.echo(json.dumps(plain(point)), err=True)

        found = study(start, dataset, out / "points", prices=at_prices, bits=at_bits, tell=tell)
    plot = svg(tradeoff_plot(found))
    write_all(out, {"tradeoff.json": to_json(found), "tradeoff.svg": plot})
    if docs is not None:
        write_all(docs, {"tradeoff.svg": plot})
    if as_json:
        print(to_json(found), end="")
        return
    _print(found)


def _print(found: Tradeoff) -> None:
    table = make_table(title=f"{found.frames_validation:,} held-out frames of {found.dataset}")
    for title in ("price", "bits", "accuracy", "spikes per neuron", "accumulations"):
        table.add_column(title, justify="right")
    for point in (*found.prices, *found.bits):
        table.add_row(
            f"{point.settings.event_price:g}",
            str(point.settings.weight_bits),
            f"{point.measured.accuracy_snn:.2%}",
            f"{point.measured.spikes_per_neuron:.4f}",
            f"{point.measured.accumulations_per_frame:,}",
        )
    make_console().print(table)


if __name__ == "__main__":
    main()
