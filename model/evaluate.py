"""Accuracy, spikes and operations of a network on a data set, stage by stage."""

import json
import os
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from model.datasets import DataError, Dataset, load
from model.engine import run_frames
from model.errors import Exit, one_line_errors
from model.network import Network, NetworkError, Neurons
from model.onnx_import import ConversionError, import_onnx

__all__ = ["evaluate"]


def evaluate(network: Network, data: Dataset, *, onnx: Path | None = None, bar: Progress | None = None) -> dict[str, Any]:
    """Run ``network`` on all frames of ``data``; the float network too where ``onnx`` names it.

    Returns
    -------
    What `main` writes as ``evaluate.json``; accuracies as shares, everything else a frame unless its name says otherwise.

    Raises
    ------
    DataError : the frames do not have the network's input shape
    """
    if data.images.shape[1:] != tuple(network.input_shape):
        raise DataError(
            f"frames of {data.name} must have the network's input shape {tuple(network.input_shape)}, "
            f"not {tuple(data.images.shape[1:])}"
        )
    found: dict[str, Any] = {"network": network.name, "network_hash": network.content_hash, "dataset": data.name}
    if onnx is not None:
        floats = import_onnx(onnx)
        inputs = {"accuracy_ann": data.images / 255, "accuracy_ann_1bit": data.images > network.input_threshold}
        for key, images in inputs.items():
            scores = floats.run(images.astype(np.float32))[0].reshape(len(data.images), -1)
            found[key] = float((scores.argmax(axis=1) == data.labels).mean())
    task = bar.add_task(f"{network.name} on {data.name}", total=len(data.images)) if bar else None
    started = time.monotonic()

    def advance(frames: int) -> None:
        if bar and task is not None:
            bar.advance(task, frames)

    summaries = list(run_frames(network, data.images, done=advance))
    seconds = time.monotonic() - started
    counts = np.array([summary.counts for summary in summaries])
    potentials = np.array([summary.potentials for summary in summaries])
    spikes = np.mean([summary.spikes for summary in summaries], axis=0)
    operations = np.mean([summary.operations for summary in summaries], axis=0)
    saturated = np.sum([summary.saturated_events for summary in summaries], axis=0)
    layers = [
        {
            "layer": layer.name,
            "kind": layer.KIND,
            "shape": list(shape),
            "spikes_per_frame": round(float(spikes[index]), 2),
            "accumulations_per_frame": round(float(operations[index]), 1),
            "saturated_events": int(saturated[index]),
        }
        for index, (layer, _, shape) in enumerate(network.walk())
    ]
    fired = sum(s for s, layer in zip(spikes, network.layers, strict=True) if isinstance(layer, Neurons))
    return {
        **found,
        "frames": len(data.images),
        "accuracy_snn": float((counts.argmax(axis=1) == data.labels).mean()),
        "accuracy_snn_potential": float((potentials.argmax(axis=1) == data.labels).mean()),
        "input_events_per_frame": round(float(np.mean([summary.input_events for summary in summaries])), 2),
        "spikes_per_neuron": round(float(fired / network.neurons), 4),
        "accumulations_per_frame": round(float(operations.sum())),
        "saturated_events": int(saturated.sum()),
        "frames_per_second": round(len(data.images) / seconds, 1),
        "cores": os.cpu_count(),
        "layers": layers,
    }


@click.command(help="Accuracy, spikes and operations of a network on a data set.")
@click.argument("net", type=click.Path(path_type=Path))
@click.option("--dataset", default="mnist", show_default=True, metavar="DATA", help="mnist, digits5k or an .npz file.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="First folder to look for the MNIST files in.")
@click.option("--onnx", type=click.Path(path_type=Path), help="The float network; the .onnx beside NET where there is one.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for evaluate.json; build/NAME by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(net: Path, dataset: str, data_dir: Path | None, onnx: Path | None, out: Path | None, as_json: bool) -> None:
    """See the help text above."""
    console = Console(stderr=True)
    with one_line_errors({NetworkError: Exit.BAD_INPUT, DataError: Exit.BAD_INPUT, ConversionError: Exit.BAD_INPUT}):
        network = Network.load(net)
        data = load(dataset, "test", data_dir)
        beside = net.with_suffix(".onnx")
        with Progress(console=console, disable=not console.is_terminal) as bar:
            found = evaluate(network, data, onnx=onnx or (beside if beside.exists() else None), bar=bar)
    folder = out or Path("build") / network.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluate.json").write_text(json.dumps(found, indent=2) + "\n")
    if as_json:
        print(json.dumps(found, indent=2))
        return
    table = Table(title=f"{network.name} on {found['frames']:,} frames of {found['dataset']}")
    for column in ("layer", "shape", "spikes a frame", "accumulations a frame", "saturated events"):
        table.add_column(column)
    for layer in found["layers"]:
        shape = "x".join(map(str, layer["shape"]))
        values = (layer["spikes_per_frame"], layer["accumulations_per_frame"], layer["saturated_events"])
        table.add_row(layer["layer"], shape, *(f"{value:,}" for value in values))
    Console().print(table)
    for key, value in found.items():
        if isinstance(value, (int, float)) or key == "network_hash":
            print(f"{key}: {value}")


if __name__ == "__main__":
    main()
