"""`python -m model.convert`: an ONNX file becomes a spiking network of integers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from model.importers.normalization import Normalization
from model.importers.options import LayerNames, file_options
from model.support.choices import FIRINGS
from model.support.cli import FilePath, FolderPath, Number, OutFile, command, doing, make_console, make_table, tell
from model.support.errors import Exit, fail
from model.support.files import check_apart, not_written

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from model.conversion.convert import Conversion
    from model.conversion.quantize import Settings

_ALIKE = ("input", "bits", "biases")
"""Columns of what was tried that say nothing where all their cells are the same."""


@command(help="Convert a trained network (ONNX) to a spiking network of integers.")
@click.argument("onnx_file", type=FilePath())
@click.option(
    "-o", "--out", required=True, type=OutFile(".npz"), help="The network file to write (.npz)."
)
@click.option(
    "--calibrate",
    default="digits5k",
    show_default=True,
    metavar="DATA",
    help="Data that thresholds and widths are chosen on: mnist, digits5k, cifar10 or an .npz file with images and labels.",
)
@click.option("--data-dir", type=FolderPath(), help="First folder to look for the files of MNIST and CIFAR-10 in.")
@click.option(
    "--frames", type=click.IntRange(1), help="Frames to calibrate on; by default 5000, or 2000 where each choice is simulated."
)
@click.option(
    "--weight-bits",
    type=click.IntRange(2, 16),
    help="Width of a weight; 8 by default, and more where a network that fires deferred needs them for its accuracy.",
)
@click.option(
    "--accuracy-budget",
    default=0.005,
    show_default=True,
    type=Number(0, 1),
    help="Accuracy on the calibration data that may go for fewer operations.",
)
@click.option(
    "--levels",
    type=Number(1),
    help="Thresholds that a large activation of a hidden layer is worth, the same in all of them; searched for by default.",
)
@click.option(
    "--paper", is_flag=True, help="The paper to the letter: one threshold for all layers, weights as they are."
)
@click.option(
    "--threshold",
    type=Number(0, min_open=True),
    help="With --paper: the threshold; 1.0 by default.",
)
@click.option(
    "--input-levels",
    type=click.IntRange(1, 255),
    help="Spikes that a pixel fires at most; 1, which is one bit per pixel, by default, and more where a network that fires "
    "deferred needs them for its accuracy.",
)
@click.option(
    "--input-threshold",
    type=click.IntRange(0, 254),
    help="Pixel value (of 255) above which a pixel fires; 51 by default, with several levels chosen on the calibration data.",
)
@click.option(
    "--input-step",
    type=click.IntRange(1, 254),
    help="How much brighter a pixel is for each further spike; chosen on the calibration data by default.",
)
@click.option(
    "--for-hardware",
    is_flag=True,
    help="Refuse by name what hardware does not build.",
)
@click.option(
    "--ungroup",
    is_flag=True,
    help="Write grouped convolutions as ordinary ones, with weights of 0, as folded machines need them.",
)
@click.option(
    "--firing",
    type=click.Choice(FIRINGS),
    help="When neurons compare: at every update, or deferred to a flush at the end of the frame. Deferred by default, immediate "
    "with --paper.",
)
@click.option(
    "--rest/--no-rest",
    default=None,
    help="Whether frames start from the state at rest rather than from biases; by default they do without --paper.",
)
@click.option(
    "--burst",
    type=click.IntRange(0, 65535),
    help="With --firing immediate: spikes that an update may fire, 0 for any; 1 by default.",
)
@click.option(
    "--rounding/--no-rounding",
    default=None,
    help="Whether counts round activations to the nearest, by half a threshold in the bias; by default where firing is deferred.",
)
@click.option(
    "--rounding-layers",
    type=LayerNames(),
    help="The layers whose counts round so, with commas between their names; those of the others do not.",
)
@click.option(
    "--thresholds",
    type=click.Choice(["layer", "channel"]),
    default="layer",
    show_default=True,
    help="Whether a layer has one threshold or each of its channels its own, which is folded into weights.",
)
@file_options
@click.option("--name", help="Name of the network; the file's name without its ending by default.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON on standard output.")
def main(
    onnx_file: Path,
    out: Path,
    calibrate: str,
    data_dir: Path | None,
    frames: int | None,
    weight_bits: int | None,
    accuracy_budget: float,
    levels: float | None,
    paper: bool,
    threshold: float | None,
    input_levels: int | None,
    input_threshold: int | None,
    input_step: int | None,
    for_hardware: bool,
    ungroup: bool,
    firing: str | None,
    rest: bool | None,
    burst: int | None,
    rounding: bool | None,
    rounding_layers: tuple[str, ...] | None,
    thresholds: str,
    layout: str | None,
    output: str | None,
    normalization: Normalization,
    name: str | None,
    as_json: bool,
) -> None:
    """See the help text above."""
    from model.conversion.convert import convert_file
    from model.conversion.quantize import Settings
    from model.reports.conversion import conversion_json, conversion_summary

    console = make_console(stderr=True)
    settings = Settings(
        weight_bits=weight_bits,
        accuracy_budget=accuracy_budget,
        threshold=(1.0 if threshold is None else threshold) if paper else None,
        levels=levels,
        input_levels=input_levels,
        input_threshold=input_threshold,
        input_step=input_step,
        for_hardware=for_hardware,
        ungroup=ungroup,
        firing=firing,
        rest=rest,
        burst=1 if burst is None else burst,
        rounding=rounding if rounding_layers is None else rounding_layers,
        channel_thresholds=thresholds == "channel",
    )
    with doing(console, "reading") as say:

        def progress(text: str) -> None:
            say(text)
            if not console.is_terminal:
                print(text, file=sys.stderr)

        if threshold is not None and not paper:
            fail(Exit.BAD_INPUT, "--threshold must not be given without --paper")
        if paper and (given := _not_the_papers(settings)):
            fail(Exit.BAD_INPUT, f"{given} must not be given with --paper")
        if burst is not None and firing != "immediate" and not paper:
            fail(Exit.BAD_INPUT, "--burst must not be given without --firing immediate")
        if rounding is not None and rounding_layers is not None:
            fail(Exit.BAD_INPUT, f"--{'' if rounding else 'no-'}rounding must not be given with --rounding-layers")
        if levels is not None and _is_given("accuracy_budget"):
            fail(Exit.BAD_INPUT, "--accuracy-budget must not be given with --levels, which searches for nothing")
        if input_step is not None and input_levels in (None, 1):
            fail(Exit.BAD_INPUT, "--input-step must not be given without --input-levels of 2 or more")
        check_apart("--out", out, {"the ONNX file": onnx_file, "the calibration file": Path(calibrate)})
        found = convert_file(
            onnx_file,
            calibrate=calibrate,
            data_dir=data_dir,
            settings=settings,
            name=name,
            limit=frames,
            layout=layout,
            output=output,
            normalization=normalization,
            given=_given(),
            progress=progress,
        )
        try:
            found.network.save(out)
        except OSError as error:
            not_written(out, error)
    tell(found.notes)
    if as_json:
        print(json.dumps({"output": str(out), **conversion_json(found)}, indent=2))
    else:
        _print(console, found, settings)
        console.print(f"{conversion_summary(found)}; written to {out}")
    tell(warnings=found.warnings)


def _is_given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) == ParameterSource.COMMANDLINE


def _given() -> list[str]:
    """The options that were given, with their values where those are words."""
    context = click.get_current_context()
    found = []
    for name, value in context.params.items():
        if _is_given(name):
            option = f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
            found.append(f"{option} {value}" if isinstance(value, str) else option)
    return found


def _not_the_papers(settings: Settings) -> str | None:
    """The first option that is chosen otherwise than the paper has it."""
    chosen = {
        f"--input-levels {settings.input_levels}": settings.input_levels not in (None, 1),
        "--firing deferred": settings.firing == "deferred",
        "--rest": settings.rests,
        f"--burst {settings.burst}": settings.burst != 1,
        "--rounding": settings.rounding_chosen is True,
        "--rounding-layers": isinstance(settings.rounding_chosen, tuple),
        "--thresholds channel": settings.channel_thresholds,
        "--levels": settings.levels is not None,
    }
    return next((option for option, given in chosen.items() if given), None)


def _print(console: Console, found: Conversion, settings: Settings) -> None:
    """The tables of the layers and of the steps of accuracy, and what there is to say about them."""
    from model.conversion.convert import EXPLAINED
    from model.conversion.explain import verdict
    from model.network import Neurons
    from model.reports.conversion import advice_lines

    table = make_table(title=f"{found.network.name}: {found.network.origin}")
    for column in ("layer", "kind", "output", "theta", "f", "weight/potential/count bits", "events in"):
        table.add_column(column)
    for layer, _, shape in found.network.walk():
        widths = ("", "", "")
        if isinstance(layer, Neurons):
            widths = (
                f"{found.thresholds[layer.name]:.4g}",
                str(layer.threshold_log2),
                f"{layer.weight_bits} / {layer.potential_bits} / {layer.count_bits}",
            )
        table.add_row(layer.name, layer.KIND, str(shape), *widths, f"{layer.mean_events:.0f}")
    console.print(table)
    if found.tried:
        console.print(_tried(found))
    ladder = make_table(title=f"where the accuracy went, on {min(found.frames, EXPLAINED)} of these frames")
    for column in ("step", "layer", "accuracy", "lost"):
        ladder.add_column(column)
    for step in found.steps:
        ladder.add_row(step.cause, step.layer, f"{step.accuracy:.2%}", f"{step.lost:+.2%}" if step.lost else "")
    console.print(ladder)
    for line in (verdict(found.steps), *advice_lines(found)):
        console.print(line)
    if found.accuracy_wanted is not None and found.accuracy_snn < found.accuracy_wanted:
        console.print(f"the accuracy budget of {settings.accuracy_budget:.2%} could not be met on the calibration frames")
    if not found.quantized and found.accumulations_per_frame > found.macs_per_frame:
        console.print(
            f"more accumulations than the float network has multiplications: {_saving(settings)} fewer, and so does fine-tuning "
            "(python -m model.finetune)"
        )
    if found.bias_corrected:
        console.print("biases make up for what rounding takes off on average (docs/conversion.md): without, more was lost")
    if found.groups_expanded:
        console.print(f"groups written as ordinary convolutions: {', '.join(found.groups_expanded)}")


def _saving(settings: Settings) -> str:
    """Which of the options takes fewer accumulations, with its verb: what is given is no matter of the budget."""
    if settings.threshold is not None:
        return "a larger --threshold takes"
    given = {"--levels": settings.levels is not None, "--input-levels": (settings.input_levels or 1) > 1}
    named = [option for option, is_given in given.items() if is_given]
    return f"fewer {' or '.join(named)} take" if named else "a larger --accuracy-budget takes"


def _tried(found: Conversion) -> Table:
    """What the search measured, in order; of the input, weights and biases only what was not the same in all."""
    table = make_table(title="what was tried, and what came of it on the calibration frames")
    columns = {
        "input": [str(tried.input_levels) for tried in found.tried],
        "levels": [", ".join(f"{levels:.4g}" for levels in tried.levels) for tried in found.tried],
        "bits": [str(tried.weight_bits) for tried in found.tried],
        "biases": ["corrected" if tried.bias_corrected else "" for tried in found.tried],
        "frames": [f"{tried.frames:,}" for tried in found.tried],
        "accuracy": [f"{tried.accuracy:.2%}" for tried in found.tried],
        "expected": [f"{tried.expected:.2%}" for tried in found.tried],
        "adds": [f"{tried.accumulations:,.0f}" for tried in found.tried],
        "spikes": [f"{tried.spikes:,.0f}" for tried in found.tried],
    }
    shown = {name: cells for name, cells in columns.items() if name not in _ALIKE or len(set(cells)) > 1}
    for name in shown:
        table.add_column(name)
    for cells in zip(*shown.values(), strict=True):
        table.add_row(*cells)
    return table


if __name__ == "__main__":
    main()
