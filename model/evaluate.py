"""Accuracy, spikes and operations of a network on a data set, stage by stage."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from model.conversion.quantized import quantized_counts
from model.engine.engine import run_frames
from model.golden import answers
from model.importers.onnx import ConversionError, import_onnx
from model.network import INPUT, Convolution, Layer, Network, Neurons, Shape
from model.reports.html import evaluation_page
from model.studies.instruments import confusion, instruments
from model.support.cli import command, tell
from model.support.datasets import Dataset, Split, load
from model.support.errors import Exit, fail
from model.support.files import write_all
from model.support.frames import suited

__all__ = ["evaluate", "macs"]


def macs(layer: Layer, source: Shape, output: Shape) -> tuple[int, int]:
    """Multiply-accumulates of the float layer, windows not clipped: the true count, and the paper's.

    The paper's footnote leaves out the input channels of convolutions.
    """
    if isinstance(layer, Convolution):
        paper = output.size * layer.kernel[0] * layer.kernel[1]
        return paper * source.channels, paper
    if isinstance(layer, Neurons):
        return layer.weights.size, layer.weights.size
    return 0, 0


def evaluate(
    network: Network, data: Dataset, *, onnx: Path | None = None, detail: int = 1000, bar: Progress | None = None
) -> dict[str, Any]:
    """Run ``network`` on all frames of ``data``; the float network too where ``onnx`` names it.

    Parameters
    ----------
    network, data : what to evaluate, and on what
    onnx : the float network's file
    detail : frames, the first ones, of which every spike is looked at: agreement of counts, course of the answer
    bar : shows progress

    Returns
    -------
    What `main` writes as ``evaluate.json``; accuracies as shares, everything else a frame unless its name says otherwise.

    Raises
    ------
    DataError : the frames do not suit the network
    """
    data = suited(network, data)
    found: dict[str, Any] = {"network": network.name, "network_hash": network.content_hash, "dataset": data.name}
    floats = import_onnx(onnx) if onnx is not None else None
    if floats is not None:
        inputs = {"accuracy_ann": data.images / 255, "accuracy_ann_1bit": data.images > network.input_threshold}
        if floats.input_shape != network.input_shape:
            raise ConversionError(
                f"{onnx}: input must have the network's shape {tuple(network.input_shape)}, not {tuple(floats.input_shape)}"
            )
        for key, images in inputs.items():
            found[key] = float((answers(floats.scores(images.astype(np.float32))) == data.labels).mean())
    task = bar.add_task(f"{network.name} on {data.name}", total=len(data.images)) if bar else None
    # Loading the compiled kernels, which takes as long as a thousand frames, is no part of the pace.
    run_frames(network, data.images[:1])
    started = time.monotonic()

    def advance(frames: int) -> None:
        if bar and task is not None:
            bar.advance(task, frames)

    summaries = run_frames(network, data.images, done=advance)
    seconds = time.monotonic() - started
    found_answers = answers(summaries.counts)
    quantized = answers(quantized_counts(network, data.images))
    detail = min(detail, len(data.images))
    task = bar.add_task(f"every spike of {detail:,} frames", total=detail) if bar else None
    agreement, course = instruments(network, data.images[:detail], data.labels[:detail], floats=floats, done=advance)
    spikes, operations = summaries.spikes.mean(axis=0), summaries.operations.mean(axis=0)
    saturated = summaries.saturated_events.sum(axis=0)
    arriving = {INPUT: float(summaries.input_events.mean())}
    arriving |= {layer.name: float(fired) for layer, fired in zip(network.layers, spikes, strict=True)}
    work = [macs(*item) for item in network.walk()]
    layers = [
        {
            "layer": layer.name,
            "kind": layer.KIND,
            "shape": list(shape),
            "neurons": shape.size if isinstance(layer, Neurons) else 0,
            "events_per_frame": round(arriving[layer.source], 2),
            "spikes_per_frame": round(float(spikes[index]), 2),
            "spikes_per_neuron": round(float(spikes[index]) / shape.size, 4),
            "accumulations_per_frame": round(float(operations[index]), 1),
            "macs_true": work[index][0],
            "macs_paper": work[index][1],
            "saturated_events": int(saturated[index]),
        }
        for index, (layer, _, shape) in enumerate(network.walk())
    ]
    fired = sum(s for s, layer in zip(spikes, network.layers, strict=True) if isinstance(layer, Neurons))
    return {
        **found,
        "frames": len(data.images),
        "notes": list(data.notes),
        "accuracy_qann": float((quantized == data.labels).mean()),
        "accuracy_snn": float((found_answers == data.labels).mean()),
        "accuracy_snn_potential": float((answers(summaries.potentials) == data.labels).mean()),
        "input_events_per_frame": round(arriving[INPUT], 2),
        "spikes_per_neuron": round(float(fired / network.neurons), 4),
        "accumulations_per_frame": round(float(operations.sum())),
        "macs_true": sum(true for true, _ in work),
        "macs_paper": sum(paper for _, paper in work),
        "saturated_events": int(saturated.sum()),
        "frames_per_second": round(len(data.images) / seconds, 1),
        "cores": os.cpu_count(),
        "layers": layers,
        "agreement": agreement,
        "course": course,
        "confusion": confusion(found_answers, data.labels, network.classes),
    }


@command(help="Accuracy, spikes and operations of a network on a data set.")
@click.argument("net", type=click.Path(path_type=Path))
@click.option("--dataset", default="mnist", show_default=True, metavar="DATA", help="mnist, digits5k or an .npz file.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="First folder to look for the MNIST files in.")
@click.option("--split", type=click.Choice(get_args(Split)), default="test", show_default=True, help="Which frames.")
@click.option("--limit", type=click.IntRange(1), help="Only this many frames, the first ones; all by default.")
@click.option("--onnx", type=click.Path(path_type=Path), help="The float network; the .onnx beside NET where there is one.")
@click.option(
    "--detail", default=1000, show_default=True, type=click.IntRange(1), help="Frames of which every spike is looked at."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for evaluate.json and evaluate.html; build/NAME by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(
    net: Path,
    dataset: str,
    data_dir: Path | None,
    split: Split,
    limit: int | None,
    onnx: Path | None,
    detail: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """See the help text above."""
    console = Console(stderr=True)
    network = Network.load(net)
    if onnx is not None:
        # What is wrong with it is said before data are looked for, which may mean a download.
        import_onnx(onnx)
    data = load(dataset, split, data_dir)
    if limit is not None and limit < len(data):
        name = f"{data.name} (first {limit:,} frames)"
        data = replace(data, name=name, images=data.images[:limit], labels=data.labels[:limit])
    beside = net.with_suffix(".onnx")
    with Progress(console=console, disable=not console.is_terminal) as bar:
        floats = onnx or (beside if beside.exists() else None)
        found = evaluate(network, data, onnx=floats, detail=detail, bar=bar)
    tell(found["notes"])
    folder = out or Path("build") / network.name
    files = {"evaluate.json": json.dumps(found, indent=2) + "\n", "evaluate.html": evaluation_page(found)}
    try:
        write_all(folder, files)
    except OSError as error:
        fail(Exit.BAD_INPUT, f"{folder}: cannot be written: {error.strerror}")
    if as_json:
        print(json.dumps(found, indent=2))
        return
    table = Table(title=f"{network.name} on {found['frames']:,} frames of {found['dataset']}")
    table.add_column("layer")
    table.add_column("shape")
    columns = {
        "events_per_frame": ("events in", ",.0f"),
        "spikes_per_frame": ("spikes", ",.0f"),
        "spikes_per_neuron": ("a neuron", ".3f"),
        "accumulations_per_frame": ("adds", ",.0f"),
        "saturated_events": ("saturated", ",d"),
    }
    for title, _ in columns.values():
        table.add_column(title, justify="right")
    for layer in found["layers"]:
        shape = "x".join(map(str, layer["shape"]))
        table.add_row(layer["layer"], shape, *(format(layer[key], style) for key, (_, style) in columns.items()))
    Console().print(table)
    for key, value in found.items():
        if isinstance(value, (int, float)) or key == "network_hash":
            print(f"{key}: {value}")
    print(f"plots: {folder / 'evaluate.html'}")


if __name__ == "__main__":
    main()
