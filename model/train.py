"""`python -m model.train`: train the network of the paper, or fine-tune one for few events."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.support.cli import FilePath, FolderPath, OutFolder, command
from model.support.datasets import DATASETS, Dataset, load
from model.support.errors import BadInputError, Exit, fail
from model.support.files import write_file
from model.training.common import ZOO, check_dataset, import_torch, keep_memory, versions
from model.training.paper_network import NAME, TrainSettings, export_onnx, load_network, report_training, train

if TYPE_CHECKING:
    from model.training.sparse import SparseSettings

_SPARSE = "mnist-sparse"


def _given(settings: TrainSettings | SparseSettings, command: str, dataset: Dataset, threads: int) -> dict[str, Any]:
    """What a report says of how a network came to be."""
    return {
        "command": command,
        "dataset": dataset.name,
        **asdict(settings),
        "threads": threads,
        "versions": versions(),
    }


def _settings(sparse: bool, options: dict[str, Any]) -> TrainSettings | SparseSettings:
    """The settings of the kind of training, with what was given in place of their defaults."""
    from model.training.sparse import SparseSettings

    kind = SparseSettings if sparse else TrainSettings
    known = {field.name for field in fields(kind)}
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in known:
            raise BadInputError(f"--{name.replace('_', '-')} must not be given {'with' if sparse else 'without'} --sparse")
    return kind(**given)


@command()
@click.option("--dataset", "dataset_name", type=click.Choice(DATASETS), default="mnist", show_default=True,
              help="Data to train and test on; digits5k needs no download.")
@click.option("--data-dir", type=FolderPath(),
              help="First folder to look for the files of MNIST and CIFAR-10 in.")
@click.option("--out", type=OutFolder(), required=True,
              help=f"Folder for {NAME}.onnx and {NAME}.train.json; with --sparse for {_SPARSE}.onnx, .npz and .train.json.")
@click.option("--sparse", is_flag=True, help="Fine-tune for few events, instead of training from the beginning.")
@click.option("--start", type=FilePath(),
              help="With --sparse: the network to start from; the bundled one by default.")
@click.option("--teacher", type=FilePath(),
              help="With --sparse: the float network whose answers are learned; the bundled one by default.")
@click.option("--seed", type=int, help="Seed of everything random; 1 by default.")
@click.option("--epochs", type=int, help="Passes over the training frames; 60 by default, 16 with --sparse.")
@click.option("--batch-size", type=int, help="Frames per step; 128 by default.")
@click.option("--learning-rate", type=float, help="Peak learning rate; 0.004 by default, 0.001 with --sparse.")
@click.option("--average-decay", type=float, help="Decay per step of the averaged weights; 0.998 by default.")
@click.option("--weight-decay", type=float, help="Weight decay of AdamW; 0.05 by default. Not with --sparse.")
@click.option("--dropout", type=float,
              help="Share of values dropped before each linear layer; 0.5 by default. Not with --sparse.")
@click.option("--binary-share", type=float,
              help="Share of training frames shown as 1-bit, the others are grey; 0.7 by default. Not with --sparse.")
@click.option("--event-price", type=float, help="With --sparse: loss for one spike per neuron per frame; 1.3 by default.")
@click.option("--moments", type=int, help="With --sparse: moments of a frame that are looked at; 4 by default.")
@click.option("--last-epochs", type=int, help="With --sparse: passes with more moments after these; 4 by default.")
@click.option("--last-moments", type=int, help="With --sparse: moments of a frame in these; 10 by default.")
@click.option("--weight-bits", type=int, help="With --sparse: width of the weights; 8 by default.")
@click.option("--teacher-share", type=float,
              help="With --sparse: share of the loss that is distance from the start's answers; 0.5 by default.")
@click.option("--keep-thresholds", is_flag=True, default=None,
              help="With --sparse: the start is for the threshold 1.0, as what --sparse makes is.")
@click.option("--average-start", is_flag=True, default=None,
              help="With --keep-thresholds: the outcome is the average of the start and of what it became.")
@click.option("--threads", type=click.IntRange(1), help="Processor threads; 2 by default, 1 with --sparse.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on standard output.")
def main(dataset_name: str, data_dir: Path | None, out: Path, sparse: bool, start: Path | None, teacher: Path | None,
         threads: int | None, as_json: bool, **options: Any) -> None:
    """Train the network 16C5-2MP2-8C5-2MP2-256FC-10FC and export it as ONNX; or fine-tune one for few events.

    One training frame of twelve is held out for validation; the test frames are measured once, at the end.
    About 10 minutes on two idle processor cores with the defaults, an hour on one with --sparse. The result is the
    same each time, given the same versions, processor and number of threads.
    """
    try:
        settings = _settings(sparse, options)
        for option, path in (("start", start), ("teacher", teacher)):
            if path is not None and not sparse:
                raise BadInputError(f"--{option} must not be given without --sparse")
        torch = import_torch()
        threads = threads or (1 if sparse else 2)
        torch.set_num_threads(threads)
        keep_memory()
        dataset, test = (load(dataset_name, split, data_dir) for split in ("train", "test"))
        check_dataset(test)
        command = ["python", "-m", "model.train", *(["--sparse"] if sparse else []), "--dataset", dataset_name,
                   "--out", out.as_posix(), "--threads", str(threads)]
        for option, path in (("start", start), ("teacher", teacher)):
            command += [f"--{option}", path.as_posix()] if path else []
        for name, value in asdict(settings).items():
            if isinstance(value, bool):
                command += [f"--{name.replace('_', '-')}"] if value else []
            else:
                command += [f"--{name.replace('_', '-')}", str(value)]
        given = _given(settings, shlex.join(command), dataset, threads)
        if isinstance(settings, TrainSettings):
            target = out / f"{NAME}.onnx"
            result = train(settings, dataset, progress=True)
            export_onnx(result.network, target)
            report = given | report_training(settings, result, dataset, test, target)
            line = (f"{target}: accuracy {report['float_accuracy_grey']:.2%} grey, {report['float_accuracy_1bit']:.2%} "
                    f"1-bit, on {len(test)} test frames of {test.name}")
        else:
            from model.training.sparse import make

            target = out / f"{_SPARSE}.onnx"
            first, taught = (load_network(path or ZOO / f"{NAME}.onnx") for path in (start, teacher))
            report = given | make(settings, first, taught, dataset, test, target)
            line = (f"{target.with_suffix('.npz')}: accuracy {report['accuracy_snn']:.2%} by spike count on {len(test)} test "
                    f"frames of {test.name}, {report['spikes_per_neuron']} spikes per neuron, "
                    f"{report['accumulations_per_frame']:,} accumulations")
        text = json.dumps(report, indent=2) + "\n"
        write_file(target.with_suffix(".train.json"), text.encode())
    except OSError as error:
        fail(Exit.BAD_INPUT, f"{error.filename}: cannot be written: {error.strerror}")
    click.echo(text if as_json else line, nl=not as_json)


if __name__ == "__main__":
    main()
