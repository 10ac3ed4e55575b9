"""Accuracy, spikes and operations of a network on a data set: `python -m model.evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from model.importers.normalization import AS_THEY_ARE, Normalization
from model.importers.options import file_options, gives_normalization
from model.support.choices import Split
from model.support.cli import FilePath, FolderPath, OutFolder, command, make_console, make_table, progress_bar, tell
from model.support.errors import one_line
from model.support.files import check_writable_folder, write_all
from model.support.results import plain, to_json

if TYPE_CHECKING:
    from model.studies.evaluation import Evaluation


@command(help="Accuracy, spikes and operations of a network on a data set.")
@click.argument("net", type=FilePath())
@click.option("--dataset", default="mnist", show_default=True, metavar="DATA", help="mnist, digits5k, cifar10 or an .npz file.")
@click.option("--data-dir", type=FolderPath(), help="First folder to look for the files of MNIST and CIFAR-10 in.")
@click.option("--split", type=click.Choice(get_args(Split)), default="test", show_default=True, help="Which frames.")
@click.option("--frames", type=click.IntRange(1), help="Only this many frames, the first ones; all by default.")
@click.option("--onnx", type=FilePath(), help="The float network; the .onnx beside NET where there is one.")
@file_options
@click.option(
    "--detail", default=1000, show_default=True, type=click.IntRange(1), help="Frames of which every spike is looked at."
)
@click.option("--out", type=OutFolder(), help="Folder for evaluate.json and evaluate.html; build/NAME by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(
    net: Path,
    dataset: str,
    data_dir: Path | None,
    split: Split,
    frames: int | None,
    onnx: Path | None,
    layout: str | None,
    output: str | None,
    normalization: Normalization,
    detail: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """See the help text above."""
    from model.conversion.origin_line import normalization_in
    from model.importers.onnx import import_onnx
    from model.network import Network
    from model.reports.evaluation_page import evaluation_page
    from model.studies.evaluation import evaluate
    from model.support.datasets import load

    console = make_console(stderr=True)
    network = Network.load(net)
    given = normalization if gives_normalization() else None
    folder = out or Path("build") / network.name
    check_writable_folder("--out", folder)
    if onnx is not None:
        # What is wrong with it is said before data are looked for, which may mean a download.
        import_onnx(
            onnx,
            layout=layout,
            input_shape=network.input_shape,
            output=output,
            normalization=given or normalization_in(network.origin) or AS_THEY_ARE,
        )
    data = load(dataset, split, data_dir).limited(frames)
    beside = net.with_suffix(".onnx")
    with progress_bar(console) as bar:
        floats = onnx or (beside if beside.exists() else None)
        found = evaluate(
            network, data, onnx=floats, layout=layout, output=output, normalization=given, detail=detail, bar=bar
        )
    tell(found.notes, found.warnings)
    write_all(folder, {"evaluate.json": to_json(found), "evaluate.html": evaluation_page(found)})
    if as_json:
        print(to_json(found), end="")
        return
    _print(found)
    print(f"plots: {folder / 'evaluate.html'}")


def _print(found: Evaluation) -> None:
    table = make_table(title=f"{found.network} on {found.frames:,} frames of {found.dataset}")
    table.add_column("layer")
    table.add_column("shape")
    for title in ("events in", "spikes", "per neuron", "adds", "saturated"):
        table.add_column(title, justify="right")
    for layer in found.layers:
        table.add_row(
            layer.layer,
            f"{layer.shape}",
            f"{layer.events_per_frame:,.0f}",
            f"{layer.spikes_per_frame:,.0f}",
            f"{layer.spikes_per_neuron:,.3f}",
            f"{layer.accumulations_per_frame:,.0f}",
            f"{layer.saturated_events:,d}",
        )
    make_console().print(table)
    for key, value in plain(found).items():
        if isinstance(value, (int, float)) or (key in ("network_hash", "float_network") and value is not None):
            print(one_line(f"{key}: {value}"))


if __name__ == "__main__":
    main()
