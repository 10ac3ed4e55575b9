"""`python -m model.train`: train the network of the paper, fine-tune one for few events, or train a residual one on colours."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.support.choices import DIGITS, ZOO
from model.support.cli import FilePath, FolderPath, OutFolder, command, tell
from model.support.errors import BadInputError, Exit, fail
from model.support.files import write_file
from model.training.cifar_settings import NAME as CIFAR_NAME
from model.training.cifar_settings import CifarSettings
from model.training.paper_settings import NAME, TrainSettings
from model.training.settings import PRECISIONS
from model.training.sparse_settings import SparseSettings

if TYPE_CHECKING:
    from model.support.dataset import Dataset

    Settings = TrainSettings | SparseSettings | CifarSettings
    Made = tuple[Path, dict[str, Any], str]
    """The file, what there is to report, and the line for whoever started it."""

_SPARSE = "mnist-sparse"


def _given(settings: Settings, command: str, dataset: Dataset, threads: int) -> dict[str, Any]:
    """What a report says of how a network came to be."""
    from model.training.common import versions

    return {
        "command": command,
        "dataset": dataset.name,
        **asdict(settings),
        "threads": threads,
        "versions": versions(),
    }


def _settings(mode: str | None, options: dict[str, Any]) -> Settings:
    """The settings of the kind of training, with what was given in place of their defaults."""
    kinds: dict[str | None, type[Settings]] = {None: TrainSettings, "sparse": SparseSettings, "cifar": CifarSettings}
    known = {which: {field.name for field in fields(kind)} for which, kind in kinds.items()}
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in known[mode]:
            # Without a kind, it is one that another kind has.
            which = f"with --{mode}" if mode else f"without --{next(each for each in known if name in known[each])}"
            raise BadInputError(f"--{name.replace('_', '-')} must not be given {which}")
    return kinds[mode](**given)


def _command(settings: Settings, words: list[str]) -> str:
    """The command that gives the same, with all settings."""
    command = ["python", "-m", "model.train", *words]
    for name, value in asdict(settings).items():
        option = f"--{name.replace('_', '-')}"
        if value is None:
            continue
        if isinstance(value, bool):
            command += [option] if value else []
        else:
            command += [option, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return shlex.join(command)


def _whole_numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    try:
        return None if value is None else tuple(int(text) for text in value.split(","))
    except ValueError:
        raise click.BadParameter(f"must be whole numbers with commas between, not {value!r}") from None


@command()
@click.option("--dataset", "dataset_name", metavar="DATA",
              help="Data to train and test on: mnist by default, or digits5k, which needs no download; with --cifar, cifar10 by "
                   "default, or an .npz file with frames of both kinds, as model.images makes it.")
@click.option("--data-dir", type=FolderPath(),
              help="First folder to look for the files of MNIST and CIFAR-10 in.")
@click.option("--out", type=OutFolder(), required=True,
              help=f"Folder for {NAME}.onnx and {NAME}.train.json; with --sparse for {_SPARSE}.onnx, .npz and .train.json; "
                   f"with --cifar for {CIFAR_NAME}.onnx and .train.json, or for DATA-resnet.onnx and so on.")
@click.option("--sparse", is_flag=True, help="Fine-tune for few events, instead of training from the beginning.")
@click.option("--cifar", is_flag=True, help="Train a small residual network on CIFAR-10, or on frames of one's own.")
@click.option("--start", type=FilePath(),
              help="With --sparse: the network to start from; the bundled one by default. With --cifar: what --cifar made of the "
                   "same shape, whose weights to begin with.")
@click.option("--teacher", "teachers", type=FilePath(), multiple=True,
              help="With --sparse: the float network whose answers are learned; the bundled one by default. With --cifar: one "
                   "whose answers are learned beside the labels; several teach together.")
@click.option("--seed", type=int, help="Seed of everything random; 1 by default.")
@click.option("--epochs", type=int, help="Passes over the training frames; 60 by default, 16 with --sparse, 100 with --cifar.")
@click.option("--batch-size", type=int, help="Frames per step; 128 by default.")
@click.option("--learning-rate", type=float, help="Peak learning rate; 0.004 by default, 0.001 with --sparse, 0.2 with --cifar.")
@click.option("--average-decay", type=float, help="Decay per step of the averaged weights; 0.998 by default.")
@click.option("--weight-decay", type=float, help="Weight decay; 0.05 by default, 0.0005 with --cifar. Not with --sparse.")
@click.option("--dropout", type=float,
              help="Share of values dropped before each linear layer; 0.5 by default. Only of the paper's network.")
@click.option("--binary-share", type=float,
              help="Share of training frames shown as 1-bit, the others are grey; 0.7 by default. Only of the paper's.")
@click.option("--event-price", type=float,
              help="With --sparse: loss for one spike per neuron per frame; 1.3 by default. With --counts: loss for as many "
                   "accumulations per frame as the network has multiplications; 0.05 by default.")
@click.option("--moments", type=int, help="With --sparse: moments of a frame that are looked at; 4 by default.")
@click.option("--last-epochs", type=int, help="With --sparse: passes with more moments after these; 4 by default.")
@click.option("--last-moments", type=int, help="With --sparse: moments of a frame in these; 10 by default.")
@click.option("--weight-bits", type=int, help="With --sparse: width of the weights; 8 by default.")
@click.option("--teacher-share", type=float,
              help="With --sparse or --cifar: share of the loss that is distance from the teacher's answers; 0.5 by default.")
@click.option("--keep-thresholds", is_flag=True, default=None,
              help="With --sparse: the start is for the threshold 1.0, as what --sparse makes is.")
@click.option("--average-start", is_flag=True, default=None,
              help="With --keep-thresholds: the outcome is the average of the start and of what it became.")
@click.option("--widths", callback=_whole_numbers, metavar="W,W,..",
              help="With --cifar: channels of each stage; 16,32,64 by default.")
@click.option("--blocks", callback=_whole_numbers, metavar="B,B,..",
              help="With --cifar: residual blocks of each stage; 0,2,2 by default. Each stage but the first halves the frame.")
@click.option("--stem", callback=_whole_numbers, metavar="W,S",
              help="With --cifar: window and stride of the first convolution; 3,1 by default.")
@click.option("--counts", is_flag=True, default=None,
              help="With --cifar: whole counts as activations, as the spiking network has them, on frames in levels. "
                   "model.finetune --keep-thresholds then rounds the weights.")
@click.option("--input-levels", type=int, help="With --counts: how often a pixel fires at most; 8 by default.")
@click.option("--accumulations", type=float,
              help="With --counts: how many are wanted per frame; the event price follows them.")
@click.option("--label-smoothing", type=float,
              help="With --cifar: share of the loss in which all classes count as much; 0.05 by default.")
@click.option("--cutout", type=int,
              help="With --cifar: height and width of a square of zeros put anywhere onto each frame; 0, none, by default.")
@click.option("--precision", type=click.Choice(PRECISIONS),
              help="With --cifar: what convolutions compute in while training; float32 by default.")
@click.option("--threads", type=click.IntRange(1), help="Processor threads; 2 by default, 1 with --sparse.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on standard output.")
def main(dataset_name: str | None, data_dir: Path | None, out: Path, sparse: bool, cifar: bool, start: Path | None,
         teachers: tuple[Path, ...], threads: int | None, as_json: bool, **options: Any) -> None:
    """Train the network 16C5-2MP2-8C5-2MP2-256FC-10FC or, with --cifar, a residual one, or fine-tune one; export it as ONNX.

    One training frame of twelve is held out for validation, with --cifar none; the test frames are measured once, at the end.
    About 10 minutes on two idle processor cores with the defaults, an hour on one with --sparse, two hours with --cifar, which
    resumes after the last whole epoch when the same command is given again. The result is the same each time, given the same
    versions, processor and number of threads.
    """
    from model.support.datasets import load
    from model.training.common import import_torch, keep_memory

    try:
        if sparse and cifar:
            raise BadInputError("--sparse must not be given with --cifar")
        mode = "sparse" if sparse else "cifar" if cifar else None
        settings = _settings(mode, options)
        for option, given_files in (("start", start), ("teacher", teachers)):
            if given_files and not mode:
                raise BadInputError(f"--{option} must not be given without --sparse or --cifar")
        if isinstance(settings, CifarSettings) and not teachers and settings.teacher_share != CifarSettings.teacher_share:
            raise BadInputError("--teacher-share must not be given without --teacher")
        if sparse and len(teachers) > 1:
            raise BadInputError("--teacher must be given once with --sparse")
        torch = import_torch()
        threads = threads or (1 if sparse else 2)
        torch.set_num_threads(threads)
        keep_memory()
        dataset_name = dataset_name or ("cifar10" if cifar else "mnist")
        if cifar == (dataset_name in DIGITS):
            known = "cifar10 or an .npz file with --cifar" if cifar else f"{' or '.join(DIGITS)} without --cifar"
            raise BadInputError(f"--dataset must be {known}, not {dataset_name!r}")
        dataset, test = (load(dataset_name, split, data_dir) for split in ("train", "test"))
        words = [*([f"--{mode}"] if mode else []), "--dataset", dataset_name, "--out", out.as_posix(), "--threads", str(threads)]
        words += ["--start", start.as_posix()] if start else []
        words += [word for path in teachers for word in ("--teacher", path.as_posix())]
        given = _given(settings, _command(settings, words), dataset, threads)
        if isinstance(settings, TrainSettings):
            target, found, line = _make_paper(settings, dataset, test, out)
        elif isinstance(settings, CifarSettings):
            target, found, line = _make_cifar(settings, dataset, test, out / _resnet(dataset_name), teachers, start)
        else:
            target, found, line = _make_sparse(settings, dataset, test, out, start, teachers[0] if teachers else None)
        text = json.dumps(given | found, indent=2) + "\n"
        write_file(target.with_suffix(".train.json"), text.encode())
    except OSError as error:
        fail(Exit.BAD_INPUT, f"{error.filename}: cannot be written: {error.strerror}")
    click.echo(text if as_json else line, nl=not as_json)


def _make_paper(settings: TrainSettings, dataset: Dataset, test: Dataset, out: Path) -> Made:
    from model.training.common import check_dataset
    from model.training.paper_network import export_onnx, report_training, train

    check_dataset(test)
    target = out / f"{NAME}.onnx"
    result = train(settings, dataset, progress=True)
    export_onnx(result.network, target)
    found = report_training(settings, result, dataset, test, target)
    accurate = f"accuracy {found['float_accuracy_grey']:.2%} grey, {found['float_accuracy_1bit']:.2%} 1-bit"
    return target, found, f"{target}: {accurate}, on {len(test)} test frames of {test.name}"


def _make_sparse(
    settings: SparseSettings, dataset: Dataset, test: Dataset, out: Path, start: Path | None, teacher: Path | None
) -> Made:
    from model.training.common import check_dataset
    from model.training.paper_network import load_network
    from model.training.sparse import make

    check_dataset(test)
    target = out / f"{_SPARSE}.onnx"
    first, taught = (load_network(path or ZOO / f"{NAME}.onnx") for path in (start, teacher))
    found = make(settings, first, taught, dataset, test, target)
    return target, found, (
        f"{target.with_suffix('.npz')}: accuracy {found['accuracy_snn']:.2%} by spike count on {len(test)} test "
        f"frames of {test.name}, {found['spikes_per_neuron']} spikes per neuron, "
        f"{found['accumulations_per_frame']:,} accumulations"
    )


def _resnet(dataset_name: str) -> str:
    return f"{Path(dataset_name).stem}-resnet.onnx" if dataset_name.endswith(".npz") else f"{CIFAR_NAME}.onnx"


def _make_cifar(
    settings: CifarSettings, dataset: Dataset, test: Dataset, target: Path, teachers: tuple[Path, ...], start: Path | None
) -> Made:
    from model.importers.onnx import import_onnx
    from model.training.cifar import make

    tell(dataset.notes)
    taught = [import_onnx(path) for path in teachers]
    found = make(settings, dataset, test, target, lambda line: click.echo(line, err=True), taught, start)
    accurate = f"accuracy {found['float_accuracy']:.2%} on {len(test)} test frames of {test.name}"
    return target, found, f"{target}: {accurate}, {found['parameters']:,} parameters, {found['macs_per_frame']:,} MACs per frame"


if __name__ == "__main__":
    main()
