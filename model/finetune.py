"""`python -m model.finetune`: fine-tune any network that imports for few events."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.importers.normalization import Normalization
from model.importers.options import file_options
from model.support.choices import DIGITS, FIRINGS
from model.support.cli import FilePath, FolderPath, Number, OutFile, command, tell
from model.support.errors import BadInputError
from model.support.files import check_apart, check_writable_file, write_all
from model.support.names import safe_name
from model.training.finetune_settings import FinetuneSettings
from model.training.settings import PRECISIONS

if TYPE_CHECKING:
    from model.importers.float_network import FloatNetwork
    from model.support.dataset import Dataset
    from model.training.finetune import FineTuned

_USUAL = FinetuneSettings()

_MOST_DIGITS = 9
"""Of a number of bits."""


@command(context_settings={"show_default": True})
@click.argument("onnx_file", type=FilePath())
@click.option(
    "--dataset",
    "dataset_name",
    required=True,
    metavar="DATA",
    help="Training frames: mnist, digits5k, cifar10 or an .npz file with images and labels. One frame of twelve is held out.",
)
@click.option("--data-dir", type=FolderPath(), help="First folder to look for the files of MNIST and CIFAR-10 in.")
@click.option(
    "--out",
    required=True,
    type=OutFile(".onnx"),
    help="File to write, TUNED.onnx; TUNED.npz, the integer network, and TUNED.finetune.json come beside it.",
)
@click.option(
    "--teacher", "teachers", type=FilePath(), multiple=True,
    help="A float network of the same input whose answers are learned; the start by default. Several teach together."
)
@click.option(
    "--event-price",
    type=Number(0),
    default=_USUAL.event_price,
    help="Loss for one spike per neuron, and for as many accumulations as the float network has multiplications, a frame. "
    "More makes fewer events, and costs accuracy.",
)
@click.option(
    "--accumulations",
    type=Number(0, min_open=True),
    help="Accumulations per frame to come to, on held-out frames: the event price follows from epoch to epoch. It stays by "
    "default.",
)
@click.option(
    "--spike-weight",
    type=Number(0),
    default=_USUAL.spike_weight,
    help="What one spike per neuron counts for there; 0 where only accumulations have a price.",
)
@click.option("--epochs", type=click.IntRange(1), default=_USUAL.epochs, help="Passes over the training frames.")
@click.option("--firing", type=click.Choice(FIRINGS), default=_USUAL.firing, help="When neurons compare.")
@click.option("--weight-bits", type=click.IntRange(2, 16), default=_USUAL.weight_bits, help="Width of a weight.")
@click.option(
    "--layer-weight-bits",
    metavar="NAME=BITS,...",
    default="",
    callback=lambda _, option, text: _by_layer(option, text),
    help="The same of single layers, as conv1=4,fc1=6.",
)
@click.option(
    "--layer-fraction-bits",
    metavar="NAME=BITS,...",
    default="",
    callback=lambda _, option, text: _by_layer(option, text),
    help="Bits of it behind the point, where 1 is the threshold, of single layers: larger weights are clipped, and states are "
    "narrower. As many as change the weights least by default.",
)
@click.option(
    "--input-potential-bits",
    type=click.IntRange(4),
    help="Width of the membrane potentials of layers that take the input, which no frame leaves: their weights are made smaller "
    "where one could. Chosen with headroom by default.",
)
@click.option(
    "--levels",
    type=Number(0.5),
    help="Thresholds that a large activation of a hidden layer is worth at the start; the fewest of 1, 2, 4 and so on with which "
    "the accuracy is within reach by default.",
)
@click.option("--output-levels", type=Number(1), default=_USUAL.output_levels, help="The same of the output.")
@click.option(
    "--keep-thresholds", is_flag=True, help="NET.onnx is for the threshold 1.0, as what this command writes is: go on from there."
)
@click.option("--input-levels", type=click.IntRange(1, 255), help="Spikes that a pixel fires at most; chosen by default.")
@click.option("--input-threshold", type=click.IntRange(0, 254), help="Pixel value (of 255) above which a pixel fires.")
@click.option("--input-step", type=click.IntRange(1, 254), help="How much brighter a pixel is for each further spike.")
@click.option(
    "--augment/--no-augment",
    default=None,
    help="Rotate, scale, shear and shift frames a little; by default the digits of mnist and digits5k, and no frames of files.",
)
@click.option(
    "--augment-share",
    type=Number(0, 1),
    default=_USUAL.augment_share,
    help="Share of frames that --augment changes in the first epoch; the others come as they are.",
)
@click.option(
    "--last-augment-share",
    type=Number(0, 1),
    default=_USUAL.last_augment_share,
    help="The same in the last epoch; evenly from one to the other in between.",
)
@click.option(
    "--mirror", is_flag=True, help="Shift frames by up to four pixels and mirror half of them, as suits photographs."
)
@click.option("--cutout", type=click.IntRange(0), default=_USUAL.cutout,
              help="Height and width of a square of zeros put anywhere onto each frame; 0: none.")
@click.option(
    "--rest/--no-rest",
    default=_USUAL.rest,
    help="Whether frames start from the state at rest; without, hardware takes less memory, and more is sent.",
)
@click.option(
    "--ungroup", is_flag=True, help="Write grouped convolutions of TUNED.npz as ordinary ones, as folded machines need them."
)
@click.option(
    "--teacher-share",
    type=Number(0, 1),
    default=_USUAL.teacher_share,
    help="Share of the loss that is distance from the teacher's answers.",
)
@click.option("--learning-rate", type=Number(0, min_open=True), default=_USUAL.learning_rate,
              help="Peak learning rate, as a part of the size of a layer's weights.")
@click.option("--batch-size", type=click.IntRange(1), default=_USUAL.batch_size, help="Frames per step.")
@click.option("--seed", type=click.IntRange(0), default=_USUAL.seed, help="Seed of everything random.")
@click.option("--precision", type=click.Choice(PRECISIONS), default=_USUAL.precision,
              help="What layers compute in while training; bfloat16 is faster on processors that have it.")
@click.option("--threads", type=click.IntRange(1), default=1, help="Processor threads.")
@file_options
@click.option("--json", "as_json", is_flag=True, help="Print TUNED.finetune.json on standard output.")
def main(
    onnx_file: Path,
    dataset_name: str,
    data_dir: Path | None,
    out: Path,
    teachers: tuple[Path, ...],
    input_step: int | None,
    augment: bool | None,
    threads: int,
    layout: str | None,
    output: str | None,
    normalization: Normalization,
    as_json: bool,
    **options: Any,
) -> None:
    """Fine-tune a trained network (ONNX) for few events: what the spiking network counts and fires is in the loss.

    What comes out is a float network with weights in units of thresholds, and the integer network that it is. The same command
    goes on where it was stopped, after the last whole epoch, and ends with the same result.
    """
    from model.importers.onnx import import_onnx
    from model.support.datasets import load
    from model.training.common import import_torch, keep_memory
    from model.training.finetune import fine_tune

    integers, record = out.with_suffix(".npz"), out.with_suffix(".finetune.json")
    check_apart("--out", out, {"the ONNX file": onnx_file})
    for teacher in teachers:
        check_apart("--out", out, {"the teacher's file": teacher})
    for path in (integers, record):
        check_writable_file("--out", path)
    check_apart("--out", integers, {"the data": Path(dataset_name)})
    if input_step is not None and options["input_levels"] in (None, 1):
        raise BadInputError("--input-step must not be given without --input-levels of 2 or more")
    torch = import_torch()
    torch.set_num_threads(threads)
    keep_memory()
    data = load(dataset_name, "train", data_dir)
    more = {"layout": layout, "output": output, "normalization": normalization}
    start = import_onnx(onnx_file, input_shape=data.images.shape[1:], **more)  # type: ignore[arg-type]
    teaching = [_teacher(path, start, more) for path in teachers]
    settings = FinetuneSettings(
        input_step=input_step,
        augment=dataset_name in DIGITS and not options["mirror"] if augment is None else augment,
        **options,
    )
    resume = _resume_file([start, *teaching], data, settings, threads)
    found = fine_tune(
        start,
        data,
        settings,
        teachers=teaching,
        name=safe_name(out.stem),
        progress=True,
        report=lambda line: click.echo(line, err=True),
        resume=resume,
    )
    tell(found.notes, found.warnings)
    given = {"start": str(onnx_file), "teachers": [str(teacher) for teacher in teachers], "normalization": str(normalization)}
    model = found.model.SerializeToString(deterministic=True)
    text = json.dumps(given | _record(found, settings, data, threads, model), indent=2) + "\n"
    write_all(out.parent, {out.name: model, integers.name: found.network.to_bytes(), record.name: text})
    resume.unlink(missing_ok=True)
    held = found.held_out
    click.echo(
        text
        if as_json
        else f"{integers}: accuracy {held['accuracy_snn']:.2%} by spike count on {found.frames_held_out:,} held-out frames of "
        f"{data.name} (the float network at the start: {held['accuracy_float_start']:.2%}), "
        f"{held['spikes_per_neuron']} spikes per neuron, {held['accumulations_per_frame']:,} accumulations",
        nl=not as_json,
    )


def _by_layer(option: click.Parameter, text: str) -> tuple[tuple[str, int], ...]:
    """Names of layers and bits, as ``conv1=4,fc1=6`` says them."""
    found, told = [], option.opts[0]
    for part in filter(None, text.split(",")):
        name, _, bits = part.rpartition("=")
        # Python makes no numbers of thousands of digits.
        if not name or not bits.isdecimal() or len(bits) > _MOST_DIGITS:
            raise BadInputError(f"{told} must be names and bits as conv1=4,fc1=6, not {part!r}")
        found.append((name, int(bits)))
    if len(dict(found)) < len(found):
        raise BadInputError(f"{told} must name each layer once, not {text!r}")
    return tuple(found)


def _teacher(path: Path, start: FloatNetwork, more: dict[str, Any]) -> FloatNetwork:
    """The float network of a file, for the frames and classes of the start."""
    from model.importers.onnx import import_onnx

    found = import_onnx(path, input_shape=start.input_shape, **more)
    wanted = (tuple(start.input_shape), start.outputs)
    if (tuple(found.input_shape), found.outputs) != wanted:
        raise BadInputError(
            f"{path}: teacher must have the start's input shape {wanted[0]} and {wanted[1]} outputs, not "
            f"{tuple(found.input_shape)} and {found.outputs}"
        )
    return found


def _resume_file(floats: Sequence[FloatNetwork], data: Dataset, settings: FinetuneSettings, threads: int) -> Path:
    """Where epochs that are done are kept, by all that they depend on: ``floats`` are the start and the teachers."""
    import platformdirs

    found = hashlib.sha256(repr((settings, threads, [network.factors for network in floats])).encode())
    for network in floats:
        found.update(network.model.SerializeToString(deterministic=True))
    found.update(data.images.tobytes() + data.labels.tobytes())
    return Path(platformdirs.user_cache_dir("tally")) / "finetune" / f"{found.hexdigest()}.pt"


def _record(found: FineTuned, settings: FinetuneSettings, data: Dataset, threads: int, model: bytes) -> dict[str, Any]:
    """What TUNED.finetune.json says of the fine-tuning."""
    from model.training.common import versions

    network = found.network
    return {
        "dataset": data.name,
        "settings": asdict(settings),
        "threads": threads,
        "versions": versions(),
        "input_levels": network.input_levels,
        "input_threshold": network.input_threshold,
        "input_step": network.input_step,
        "frames_train": len(data) - found.frames_held_out,
        "frames_held_out": found.frames_held_out,
        "epochs": [asdict(line) for line in found.epochs],
        "chosen_epoch": found.chosen,
        "held_out": found.held_out,
        "warnings": list(found.warnings),
        "onnx_sha256": hashlib.sha256(model).hexdigest(),
        "network_hash": network.content_hash,
    }


if __name__ == "__main__":
    main()
