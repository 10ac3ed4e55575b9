"""`python -m model.paper_networks NAME`: train a network that the paper's Table I is measured on."""

from __future__ import annotations

import hashlib
import importlib
import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model.support.choices import DIGITS
from model.support.cli import FolderPath, OutFolder, command, make_console
from model.support.files import write_all

if TYPE_CHECKING:
    from model.training.paper_trained import Train

NETWORKS = {
    "balanced-rates": ("model.studies.rate_training", "train_balanced_rates"),
    "event-classifier": ("model.studies.rate_training", "train_event_classifier"),
    "first-spike-convolutional": ("model.training.paper_first_spike", "train_convolutional"),
    "first-spike-two-layer": ("model.training.paper_first_spike", "train_two_layers"),
    "paper-sgd": ("model.training.paper_sgd", "train_sgd"),
    "stbp": ("model.training.stbp", "train_stbp"),
    "temporal-600": ("model.training.temporal_coding", "train_fast"),
    "temporal-800": ("model.training.temporal_coding", "train_large"),
}
"""Of each network the module and the function that train it."""


@command(context_settings={"show_default": True})
@click.argument("name", type=click.Choice(tuple(NETWORKS)))
@click.option("--dataset", "dataset_name", type=click.Choice(DIGITS), default="mnist", help="Data to train on.")
@click.option("--data-dir", type=FolderPath(), help="First folder to look for the MNIST files in.")
@click.option("--seed", type=click.IntRange(0), default=1, help="Of everything random.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the training frames; by default as bundled.")
@click.option(
    "--out", type=OutFolder(), default=Path("build/paper-networks"), help="Folder for the network and NAME.train.json."
)
@click.option("--json", "as_json", is_flag=True, help="Print NAME.train.json on standard output.")
def main(
    name: str, dataset_name: str, data_dir: Path | None, seed: int, epochs: int | None, out: Path, as_json: bool
) -> None:
    """Train a network that Table I of docs/paper.md is measured on, on one processor core.

    Some training frames are held out, and the accuracy on them is in NAME.train.json. Test frames have no part in it:
    `python -m model.paper` measures them. The result is the same each time, given the same versions and processor.
    """
    from model.support.datasets import load
    from model.training.common import check_dataset, import_torch, keep_memory, versions
    from model.training.paper_trained import archive

    import_torch().set_num_threads(1)
    keep_memory()
    dataset = load(dataset_name, "train", data_dir)
    check_dataset(dataset)
    console = make_console(stderr=True)
    module, function = NETWORKS[name]
    train: Train = getattr(importlib.import_module(module), function)
    started = time.process_time()
    trained = train(dataset, seed, epochs, console)
    seconds = time.process_time() - started
    files: dict[str, bytes | str] = {}
    if trained.arrays:
        files[f"{name}.npz"] = archive(trained.arrays)
    if trained.onnx is not None:
        files[f"{name}.onnx"] = trained.onnx
    asked = ["--dataset", dataset_name, "--seed", str(seed), *(["--epochs", str(epochs)] if epochs else [])]
    record = {
        "command": shlex.join(["python", "-m", "model.paper_networks", name, *asked]),
        "dataset": dataset.name,
        "seed": seed,
        **trained.record,
        "versions": versions(),
        "train_processor_seconds": round(seconds, 1),
        "sha256": {file: hashlib.sha256(content).hexdigest() for file, content in files.items() if isinstance(content, bytes)},
    }
    text = json.dumps(record, indent=2) + "\n"
    write_all(out, {**files, f"{name}.train.json": text})
    if as_json:
        print(text, end="")
        return
    for file, content in files.items():
        print(f"{out / file}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
