"""What the answer is worth under disturbances: `python -m model.robustness`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from model.support.choices import Split
from model.support.cli import FilePath, FolderPath, OutFolder, command, make_console, make_table, progress_bar, tell
from model.support.files import write_all
from model.support.results import to_json

if TYPE_CHECKING:
    from model.studies.robustness_results import Robustness


@command(help="What the answer is worth when events come in another order, get lost or multiply, and weight bits flip.")
@click.argument("net", type=FilePath())
@click.option("--dataset", default="mnist", show_default=True, metavar="DATA", help="mnist, digits5k, cifar10 or an .npz file.")
@click.option("--data-dir", type=FolderPath(), help="First folder to look for the files of MNIST and CIFAR-10 in.")
@click.option("--split", type=click.Choice(get_args(Split)), default="test", show_default=True, help="Which frames.")
@click.option("--frames", default=2000, show_default=True, type=click.IntRange(1), help="Frames, the first ones.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Seed of everything random.")
@click.option("--trials", default=3, show_default=True, type=click.IntRange(1), help="Runs of each random disturbance.")
@click.option("--detail", default=1000, show_default=True, type=click.IntRange(1), help="Frames of the quantized network too.")
@click.option("--out", type=OutFolder(), help="Folder for robustness.json and .html; build/NAME by default.")
@click.option("--docs", type=OutFolder(), help="Folder for the figures as robustness-*.svg; none by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(
    net: Path,
    dataset: str,
    data_dir: Path | None,
    split: Split,
    frames: int,
    seed: int,
    trials: int,
    detail: int,
    out: Path | None,
    docs: Path | None,
    as_json: bool,
) -> None:
    """See the help text above."""
    from model.network import Network
    from model.reports.robustness_page import figure_files, robustness_page
    from model.studies.robustness import study
    from model.support.datasets import load
    from model.support.frames import suited

    console = make_console(stderr=True)
    network = Network.load(net)
    data = load(dataset, split, data_dir)
    data = suited(network, data)
    tell(data.notes)
    data = data.limited(frames)
    folder = out or Path("build") / network.name
    # A study takes minutes: what it does not take, and what cannot be written, is better known before.
    network.refuse_branches("a study of robustness")
    for each in (folder, *((docs,) if docs else ())):
        write_all(each, {})
    with progress_bar(console) as bar:
        found = study(network, data, seed=seed, trials=trials, detail=detail, bar=bar)
    write_all(folder, {"robustness.json": to_json(found), "robustness.html": robustness_page(found)})
    if docs:
        write_all(docs, figure_files(found))
    if as_json:
        print(to_json(found), end="")
        return
    _print(found)
    print(f"plots: {folder / 'robustness.html'}")


def _print(found: Robustness) -> None:
    """The tables of the study, for a terminal."""
    from model.reports.robustness_page import label_of, level_of

    console = make_console(width_in_file=140)
    columns = ("accuracy", "least", "greatest", "potential", "changed", "per neuron", "adds", "saturated")
    for name, rows in found.tables.items():
        shown = make_table(title=f"{name}, {found.frames:,} frames of {found.dataset}", title_justify="left")
        shown.add_column("disturbance")
        for title in ("", *columns):
            shown.add_column(title, justify="right")
        for row in rows:
            of = row.figures
            shares = (of.accuracy, of.accuracy_least, of.accuracy_greatest, of.accuracy_potential, of.answers_changed)
            shown.add_row(
                label_of(row),
                level_of(name, row.level),
                *(f"{share:.2%}" for share in shares),
                f"{of.spikes_per_neuron:.3f}",
                f"{of.accumulations_per_frame:,}",
                f"{of.saturated_events_per_frame:.3g}",
            )
        console.print(shown)
    shown = make_table(title=f"counts against the quantized network's, {found.parting.frames:,} frames", title_justify="left")
    shown.add_column("order, layer")
    for title in ("magnitude", "hysteresis", "backlog", "inherited", "gain", "correlation", "negative", "answer after"):
        shown.add_column(title, justify="right")
    orders = dict(found.parting.orders)
    for level, of_orders in found.parting.finer.items():
        orders |= {f"thresholds / {level}, {order}": rows for order, rows in of_orders.items()}
    for order, layers in orders.items():
        for layer in layers:
            shown.add_row(
                f"{order}, {layer.layer}",
                *(f"{each:.5f}" for each in (layer.difference_mean_absolute, layer.hysteresis, layer.backlog, layer.inherited)),
                *("" if each is None else f"{each:.3f}" for each in (layer.gain, layer.correlation)),
                f"{layer.negative_spikes:.1%}",
                "" if layer.accuracy_after is None else f"{layer.accuracy_after:.2%}",
            )
    console.print(shown)


if __name__ == "__main__":
    main()
