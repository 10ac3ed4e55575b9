"""From a trained float network to integers: thresholds from calibration data, fixed point, widths with headroom.

A spike of layer ``l`` stands for ``theta_l`` (the input's for 1). With ``f`` fractional bits a weight becomes
``round(w * theta_before * 2**f / theta_l)``, a bias ``round(b * 2**f / theta_l)``, and the threshold ``2**f``: every
threshold is a power of two, and ``theta_l`` itself is gone from the hardware.
"""

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from model.conversion.correction import corrected
from model.conversion.explain import Step, explain, verdict
from model.engine.engine import run_frames
from model.importers.float_network import hardware_form
from model.importers.onnx import ConversionError, FloatLayer, FloatNetwork, import_onnx
from model.network import INPUT, Convolution, Layer, Linear, MaxPool, Network, NetworkError, Neurons
from model.support.datasets import DataError, Dataset, load
from model.support.errors import Exit, fail, one_line_errors

__all__ = ["Conversion", "Settings", "convert", "convert_file", "quantize"]

_MOST_POTENTIAL_BITS = 24
_MOST_COUNT_BITS = 16
_HEADROOM = 2
"""Widths hold this many times the extremes seen in calibration."""

_MOST_LEVELS = 10.0
"""How many thresholds a large activation of a hidden layer holds at most."""

_LEVEL_STEP = 0.75
"""Step of the search to fewer levels."""

_OUTPUT_LEVELS = 100
"""The same for the output layer, whose spikes reach no neuron, so that many of them are cheap."""

_EXPLAINED = 500
"""Calibration frames on which it is found where the accuracy went."""

_CORRECTED = 200
"""Calibration frames on which biases are corrected."""

_WORTH_CORRECTING = 0.002
"""Accuracy that corrected biases must bring."""

_LARGE = 99.0
"""Percentile of the positive activations that counts as a large one."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to convert.

    Parameters
    ----------
    weight_bits : width of a weight
    accuracy_budget : accuracy on the calibration data that may be lost against the float network on the same 1-bit
        input, for fewer operations
    threshold : the paper's mode: this one threshold for all layers, weights as they are; None chooses thresholds
    input_threshold : pixels fire when greater than this
    for_hardware : refuse what hardware does not build, and write grouped convolutions as ordinary ones
    """

    weight_bits: int = 8
    accuracy_budget: float = 0.001
    threshold: float | None = None
    input_threshold: int = 51
    for_hardware: bool = False


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A converted network, and what it cost.

    Parameters
    ----------
    network : the network
    thresholds : ``theta_l`` of each neuron layer, in the float network's units
    accuracy_float, accuracy_float_1bit, accuracy_snn : on the calibration data
    accumulations_per_frame : mean, on the calibration data
    steps : from the float network to the spiking one, where the accuracy went, on the first `_EXPLAINED` frames
    groups_expanded : grouped convolutions that were written as ordinary ones, for hardware
    bias_corrected : whether biases make up for rounding (`model.conversion.correction`), as without it the accuracy was out of
        reach
    """

    network: Network
    thresholds: dict[str, float]
    accuracy_float: float
    accuracy_float_1bit: float
    accuracy_snn: float
    accumulations_per_frame: float
    frames: int
    steps: tuple[Step, ...]
    groups_expanded: tuple[str, ...] = ()
    bias_corrected: bool = False


def quantize(
    float_network: FloatNetwork, thresholds: Sequence[float], settings: Settings, *, name: str, origin: str = ""
) -> Network:
    """The integer network for these thresholds, one a neuron layer, at full widths.

    Raises
    ------
    ConversionError : where a weight or bias cannot be represented
    """
    layers: list[Layer] = []
    before, source = 1.0, INPUT
    left = list(thresholds)
    for index, layer in enumerate(float_network.layers):
        if layer.kind == "maxpool":
            layers.append(
                MaxPool(name=layer.name, source=source, window=layer.window, stride=layer.stride, padding=layer.padding)
            )
        else:
            theta = left.pop(0)
            layers.append(_neurons(float_network.path, layer, source, before, theta, settings))
            before = theta
        source = float_network.layers[index].name
    return Network(
        name=name,
        input_shape=float_network.input_shape,
        layers=tuple(layers),
        input_threshold=settings.input_threshold,
        origin=origin,
    )


def _neurons(
    path: Path, layer: FloatLayer, source: str, before: float, theta: float, settings: Settings
) -> Convolution | Linear:
    assert layer.weights is not None and layer.bias is not None
    scaled = layer.weights * (before / theta)
    bias = layer.bias / theta
    most = (1 << settings.weight_bits - 1) - 1
    bits_left = np.log2(most / max(np.abs(scaled).max(), 1e-12))
    f = int(np.clip(np.floor(bits_left), 0, _MOST_POTENTIAL_BITS - 4))
    if bits_left < 0:
        raise ConversionError(
            f"{path}: layer {layer.name!r}: largest weight must be at most {most} thresholds, not "
            f"{np.abs(scaled).max():.4g}; use more weight bits or a larger threshold"
        )
    limit = (1 << _MOST_POTENTIAL_BITS - 2) - 1
    while f > 0 and np.abs(bias).max() * (1 << f) > limit:
        f -= 1
    common = {
        "name": layer.name,
        "source": source,
        "bias": np.rint(bias * (1 << f)).astype(np.int64),
        "threshold_log2": f,
        "activation": "relu" if layer.relu else "identity",
        "weight_bits": settings.weight_bits,
        "potential_bits": _MOST_POTENTIAL_BITS,
        "count_bits": _MOST_COUNT_BITS,
    }
    weights = np.rint(scaled * (1 << f)).astype(np.int64)
    if layer.kind == "linear":
        return Linear(weights=weights, **common)  # type: ignore[arg-type]
    window = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
    return Convolution(weights=weights, **window, **common)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Measured:
    accuracy: float
    accumulations: float
    network: Network


def convert(
    float_network: FloatNetwork,
    calibration: Dataset,
    settings: Settings,
    *,
    name: str,
    origin: str = "",
    progress: Callable[[str], None] = lambda text: None,
) -> Conversion:
    """Convert, choosing thresholds and widths on ``calibration``.

    Raises
    ------
    ConversionError : the network or the data does not suit
    """
    grouped = tuple(layer.name for layer in float_network.layers if layer.groups > 1)
    if settings.for_hardware:
        float_network = hardware_form(float_network)
    if calibration.images.shape[1:] != tuple(float_network.input_shape):
        raise ConversionError(
            f"{float_network.path}: input must have the shape of the calibration frames "
            f"{tuple(calibration.images.shape[1:])}, not {tuple(float_network.input_shape)}"
        )
    images, labels = calibration.images, calibration.labels
    binary = (images > settings.input_threshold).astype(np.float32)
    neuron_layers = [layer for layer in float_network.layers if layer.kind != "maxpool"]
    grey = _accuracy(float_network.run(images.astype(np.float32) / 255)[0], labels)
    scores, *activations = [
        a for a in float_network.run(binary, [_output(float_network), *(n.tensor for n in neuron_layers)])
    ]
    one_bit = _accuracy(scores, labels)
    large = [
        _large(np.maximum(values, 0) if layer.relu else values)
        for layer, values in zip(neuron_layers, activations, strict=True)
    ]

    def named(thresholds: Sequence[float]) -> dict[str, float]:
        return {layer.name: theta for layer, theta in zip(neuron_layers, thresholds, strict=True)}

    def plain(thresholds: Sequence[float]) -> Network:
        return quantize(float_network, thresholds, settings, name=name, origin=origin)

    def measure(thresholds: Sequence[float]) -> _Measured:
        return _measure(plain(thresholds), images, labels)

    def measure_corrected(thresholds: Sequence[float]) -> _Measured:
        network = corrected(float_network, plain(thresholds), named(thresholds), images[:_CORRECTED])
        return _measure(network, images, labels)

    bias_corrected = False

    if settings.threshold is not None:
        thresholds = [settings.threshold] * len(large)
        best = measure(thresholds)
    else:
        weights = [float(np.abs(layer.weights).max()) for layer in neuron_layers if layer.weights is not None]
        steepest = [weight / ((1 << settings.weight_bits - 1) - 1) for weight in weights]
        wanted = one_bit - settings.accuracy_budget
        thresholds, best = _choose(large, steepest, wanted, measure, progress)
        if best.accuracy < wanted:
            progress("the same with corrected biases")
            again = _choose(large, steepest, wanted, measure_corrected, progress)
            # A frame or two more are no reason to depart from the trained biases.
            if again[1].accuracy > best.accuracy + _WORTH_CORRECTING:
                (thresholds, best), bias_corrected = again, True
    network = _fit_widths(best.network, images)
    final = _measure(network, images, labels)
    if final.accuracy != best.accuracy:
        raise ConversionError(f"{float_network.path}: widths must not change the answers; report this network")
    progress("where the accuracy went")
    theta_of, explained = named(thresholds), (images[:_EXPLAINED], labels[:_EXPLAINED])
    before = plain(thresholds) if bias_corrected else None
    return Conversion(
        network=network,
        thresholds=theta_of,
        accuracy_float=grey,
        accuracy_float_1bit=one_bit,
        accuracy_snn=final.accuracy,
        accumulations_per_frame=final.accumulations,
        frames=len(images),
        steps=explain(float_network, network, theta_of, *explained, uncorrected=before),
        groups_expanded=grouped if settings.for_hardware else (),
        bias_corrected=bias_corrected,
    )


def _output(float_network: FloatNetwork) -> str:
    return float_network.model.graph.output[0].name


def _accuracy(scores: npt.NDArray[np.number], labels: npt.NDArray[np.int64]) -> float:
    return float((scores.reshape(len(scores), -1).argmax(axis=1) == labels).mean())


def _large(activation: npt.NDArray[np.floating]) -> float:
    positive = np.abs(activation)[np.abs(activation) > 1e-6]
    return float(np.percentile(positive, _LARGE)) if len(positive) else 1.0


def _measure(network: Network, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> _Measured:
    found = run_frames(network, images)
    return _Measured(_accuracy(found.counts, labels), float(found.operations.sum(axis=1).mean()), network)


def _choose(
    large: Sequence[float],
    steepest: Sequence[float],
    wanted: float,
    measure: Callable[[Sequence[float]], _Measured],
    progress: Callable[[str], None],
) -> tuple[list[float], _Measured]:
    """Fewest operations with at least the accuracy ``wanted``, or, out of its reach, that of the most thresholds.

    From many thresholds to a large activation in every layer, again and again the step to fewer that saves the most
    operations for the accuracy it costs, while that stays high enough. (Still more thresholds do not help: a neuron fires
    once an update at most, and lags behind an activation that is worth many.)

    ``large`` is a large activation of each layer, ``steepest`` the least a threshold can be for each unit of the one
    before: the largest weight has to fit into its bits.
    """

    def thresholds(levels: Sequence[float]) -> list[float]:
        found, before = [], 1.0
        for activation, slope, wanted_levels in zip(large, steepest, [*levels, _OUTPUT_LEVELS], strict=True):
            before = max(activation / wanted_levels, slope * before * (1 + 1e-12))
            found.append(before)
        return found

    def measured(levels: Sequence[float]) -> _Measured:
        found = measure(thresholds(levels))
        progress(
            f"levels {', '.join(f'{n:g}' for n in levels) or '-'}: accuracy {found.accuracy:.4f}, "
            f"{found.accumulations:,.0f} accumulations a frame"
        )
        return found

    levels = [_MOST_LEVELS] * (len(large) - 1)
    best = measured(levels)
    floor = min(wanted, best.accuracy)
    while True:
        steps = []
        for index in range(len(levels)):
            fewer = [*levels[:index], round(levels[index] * _LEVEL_STEP, 3), *levels[index + 1 :]]
            if fewer[index] < 1:
                continue
            found = measured(fewer)
            if found.accuracy >= floor and found.accumulations < best.accumulations:
                # A frame in two thousand is about what one can tell apart.
                lost = max(best.accuracy - found.accuracy, 0.0005)
                steps.append((math.log(best.accumulations / found.accumulations) / lost, fewer, found))
        if not steps:
            break
        _, levels, best = max(steps, key=lambda step: step[0])
        floor = max(floor, min(wanted, best.accuracy))
    return thresholds(levels), best


def _fit_widths(network: Network, images: npt.NDArray[np.uint8]) -> Network:
    """Widths that hold `_HEADROOM` times the extremes of the calibration frames; mean events a layer."""
    found = run_frames(network, images)
    spikes = found.spikes.mean(axis=0)
    events = {INPUT: float(found.input_events.mean())}
    layers: list[Layer] = []
    for index, layer in enumerate(network.layers):
        events[layer.name] = float(spikes[index])
        layer = replace(layer, mean_events=round(events[layer.source], 1))
        if isinstance(layer, Neurons):
            # The residual must also hold theta on both sides, a bias, and one more weight on top of what is stored.
            stored = max(-int(found.least_residual[index]), int(found.greatest_residual[index]))
            widest = max(stored, int(np.abs(layer.bias).max()), layer.theta)
            potential = (_HEADROOM * (widest + int(np.abs(layer.weights).max()))).bit_length() + 1
            counted = max(1, _HEADROOM * int(found.greatest_count[index])).bit_length() + (0 if layer.relu else 1)
            layer = replace(
                layer,
                potential_bits=min(potential, _MOST_POTENTIAL_BITS),
                count_bits=min(max(counted, 2), _MOST_COUNT_BITS),
            )
        layers.append(layer)
    return replace(network, layers=tuple(layers))


def convert_file(
    path: Path | str,
    *,
    calibrate: str = "digits5k",
    data_dir: Path | None = None,
    settings: Settings | None = None,
    name: str | None = None,
    limit: int = 2000,
    progress: Callable[[str], None] = lambda text: None,
) -> Conversion:
    """Convert an ONNX file with the training split of data set ``calibrate`` (a name or an ``.npz`` file)."""
    settings = settings or Settings()
    float_network = import_onnx(path)
    data = load(calibrate, "train", data_dir)
    classes, calibrated = np.unique(data.labels), np.unique(data.labels[:limit])
    if 2 * len(calibrated) <= len(classes):
        raise DataError(
            f"{data.name}: the first {limit:,} frames must hold more than half of the {len(classes)} classes, not only "
            f"{', '.join(map(str, calibrated))}; shuffle the data or raise --limit"
        )
    data = replace(data, images=data.images[:limit], labels=data.labels[:limit])
    label = "all thresholds " + f"{settings.threshold:g}" if settings.threshold is not None else "thresholds chosen"
    origin = f"{Path(path).name}, {label} on {len(data.images)} frames of {data.name}"
    return convert(float_network, data, settings, name=name or Path(path).stem, origin=origin, progress=progress)


@click.command(help="Convert a trained network (ONNX) to a spiking network of integers.")
@click.argument("onnx_file", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The network file to write (.npz)."
)
@click.option(
    "--calibrate",
    default="digits5k",
    show_default=True,
    metavar="DATA",
    help="Data that thresholds and widths are chosen on: mnist, digits5k or an .npz file with images and labels.",
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="First folder to look for the MNIST files in.")
@click.option("--limit", default=2000, show_default=True, type=click.IntRange(1), help="Frames to calibrate on.")
@click.option("--weight-bits", default=8, show_default=True, type=click.IntRange(2, 16), help="Width of a weight.")
@click.option(
    "--accuracy-budget",
    default=0.001,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Accuracy on the calibration data that may go for fewer operations.",
)
@click.option(
    "--paper", is_flag=True, help="The paper to the letter: one threshold for all layers, weights as they are."
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, min_open=True),
    help="With --paper: the threshold; 1.0 by default.",
)
@click.option(
    "--for-hardware",
    is_flag=True,
    help="Refuse by name what hardware does not build; write grouped convolutions as ordinary ones.",
)
@click.option("--name", help="Name of the network; the file's name without its ending by default.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON on standard output.")
def main(
    onnx_file: Path,
    output: Path,
    calibrate: str,
    data_dir: Path | None,
    limit: int,
    weight_bits: int,
    accuracy_budget: float,
    paper: bool,
    threshold: float | None,
    for_hardware: bool,
    name: str | None,
    as_json: bool,
) -> None:
    """See the help text above."""
    console = Console(stderr=True)
    settings = Settings(
        weight_bits=weight_bits,
        accuracy_budget=accuracy_budget,
        threshold=(1.0 if threshold is None else threshold) if paper else None,
        for_hardware=for_hardware,
    )
    with (
        one_line_errors({ConversionError: Exit.BAD_INPUT, DataError: Exit.BAD_INPUT, NetworkError: Exit.BAD_INPUT}),
        console.status("reading") as status,
    ):

        def progress(text: str) -> None:
            status.update(text)
            if not console.is_terminal:
                print(text, file=sys.stderr)

        if threshold is not None and not paper:
            fail(Exit.BAD_INPUT, "--threshold must not be given without --paper")
        if output.suffix != ".npz":
            fail(Exit.BAD_INPUT, f"--output must end in .npz, not {str(output)!r}")
        found = convert_file(
            onnx_file,
            calibrate=calibrate,
            data_dir=data_dir,
            settings=settings,
            name=name,
            limit=limit,
            progress=progress,
        )
        try:
            found.network.save(output)
        except OSError as error:
            fail(Exit.BAD_INPUT, f"{output}: cannot be written: {error.strerror}")
    if as_json:
        print(
            json.dumps(
                {
                    "network": found.network.name,
                    "network_hash": found.network.content_hash,
                    "output": str(output),
                    "frames": found.frames,
                    "accuracy_ann": found.accuracy_float,
                    "accuracy_ann_1bit": found.accuracy_float_1bit,
                    "accuracy_snn": found.accuracy_snn,
                    "accumulations_per_frame": found.accumulations_per_frame,
                    "thresholds": found.thresholds,
                    "groups_expanded": list(found.groups_expanded),
                    "bias_corrected": found.bias_corrected,
                    "steps": [asdict(step) for step in found.steps],
                    "verdict": verdict(found.steps),
                },
                indent=2,
            )
        )
        return
    table = Table(title=f"{found.network.name}: {found.network.origin}")
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
    ladder = Table(title=f"where the accuracy went, on {min(found.frames, _EXPLAINED)} of these frames")
    for column in ("step", "layer", "accuracy", "lost"):
        ladder.add_column(column)
    for step in found.steps:
        ladder.add_row(step.cause, step.layer, f"{step.accuracy:.2%}", f"{step.lost:+.2%}" if step.lost else "")
    console.print(ladder)
    console.print(verdict(found.steps))
    if not paper and found.accuracy_snn < found.accuracy_float_1bit - accuracy_budget:
        console.print(f"the accuracy budget of {accuracy_budget:.2%} could not be met on the calibration frames")
    if found.bias_corrected:
        console.print("biases make up for what rounding takes off on average (docs/conversion.md): without, more was lost")
    if found.groups_expanded:
        console.print(f"groups written as ordinary convolutions, for hardware: {', '.join(found.groups_expanded)}")
    console.print(
        f"accuracy on {found.frames} calibration frames: float {found.accuracy_float:.4f}, float on 1-bit input "
        f"{found.accuracy_float_1bit:.4f}, spiking {found.accuracy_snn:.4f}; "
        f"{found.accumulations_per_frame:,.0f} accumulations a frame; written to {output}"
    )


if __name__ == "__main__":
    main()
