"""Conversion: thresholds and widths chosen on calibration data, and what the network lost on the way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.conversion.chance import other_scale, warn_of_chance
from model.conversion.channels import channel_scales, with_scales
from model.conversion.coding import choose_coding
from model.conversion.correction import corrected
from model.conversion.explain import Step, explain
from model.conversion.quantize import Settings, fit_widths, quantize
from model.conversion.search import OUTPUT_LEVELS, Measured, choose, thresholds_of
from model.engine.engine import run_frames
from model.golden import answers
from model.importers.float_network import ConversionError, FloatLayer, FloatNetwork
from model.importers.hardware_form import hardware_form
from model.importers.normalization import AS_THEY_ARE, Normalization
from model.importers.onnx import import_onnx
from model.machine.capability import check_machine_can
from model.network import Network
from model.support.datasets import DataError, Dataset, load
from model.support.errors import NetworkError
from model.support.names import SAFE_NAME, is_safe_name, printable, safe_name

__all__ = ["EXPLAINED", "Conversion", "convert", "convert_file"]

EXPLAINED = 500
"""Calibration frames on which it is found where the accuracy went."""

_CORRECTED = 200
"""Calibration frames on which biases are corrected."""

_WORTH_CORRECTING = 0.002
"""Accuracy that corrected biases must bring."""

_LARGE = 99.0
"""Percentile of the positive activations that counts as a large one."""

_ROUNDING = 1e-7
"""Part of the largest potential of a layer that float32 may be off by."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A converted network, and what it cost.

    Parameters
    ----------
    network : Network
        The network.
    thresholds : dict[str, float]
        ``theta_l`` of each neuron layer, in the float network's units.
    accuracy_float, accuracy_float_1bit, accuracy_snn : float
        On the calibration data.
    accumulations_per_frame : float
        Mean, on the calibration data.
    steps : tuple[Step, ...]
        From the float network to the spiking one, where the accuracy went, on the first `EXPLAINED` frames.
    groups_expanded : tuple[str, ...]
        Grouped convolutions that were written as ordinary ones, for hardware.
    notes : tuple[str, ...]
        How the calibration frames were read, where that was not as they come.
    warnings : tuple[str, ...]
        What speaks against the result.
    bias_corrected : bool
        Whether biases make up for rounding (`model.conversion.correction`), as without it the accuracy was out of reach.
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
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


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
    ConversionError : the network does not suit
    DataError : the frames do not suit the network
    """
    grouped = tuple(layer.name for layer in float_network.layers if layer.groups > 1)
    if settings.for_hardware:
        float_network = hardware_form(float_network)
    _check_names(float_network, settings)
    settings, calibration = _coded(float_network, calibration, settings, progress)
    images, labels = calibration.images, calibration.labels
    coded = settings.coding.frames(images).astype(np.float32)
    neuron_layers = [layer for layer in float_network.layers if layer.kind != "maxpool"]
    grey = _accuracy(float_network.scores(images.astype(np.float32) / 255), labels)
    one_bit = _accuracy(float_network.scores(coded), labels)
    activations = float_network.run(coded, [layer.tensor for layer in neuron_layers])
    large = [_large(layer, values) for layer, values in zip(neuron_layers, activations, strict=True)]
    if settings.channel_thresholds:
        scales = [
            channel_scales(layer, values, most)
            for layer, values, most in zip(neuron_layers[:-1], activations, large, strict=False)
        ]
        float_network = with_scales(float_network, scales)
        neuron_layers = [layer for layer in float_network.layers if layer.kind != "maxpool"]
    ends = [layer.end for layer in neuron_layers]
    rounded = [layer.name for layer in neuron_layers if settings.rounds(layer.name)]

    def named(thresholds: Sequence[float]) -> dict[str, float]:
        return {layer.name: theta for layer, theta in zip(neuron_layers, thresholds, strict=True)}

    def plain(thresholds: Sequence[float]) -> Network:
        return quantize(float_network, thresholds, settings, name=name, origin=origin)

    def measure(thresholds: Sequence[float]) -> Measured:
        return _measure(plain(thresholds), images, labels)

    def measure_corrected(thresholds: Sequence[float]) -> Measured:
        network = corrected(
            float_network, plain(thresholds), named(thresholds), images[:_CORRECTED], rounding=rounded
        )
        return _measure(network, images, labels)

    bias_corrected = False

    if settings.threshold is not None:
        thresholds = [settings.threshold] * len(large)
        best = measure(thresholds)
    elif settings.levels is not None:
        levels = [settings.levels] * (len(large) - 1)
        thresholds = thresholds_of([*levels, OUTPUT_LEVELS], large, _steepest(neuron_layers, settings), ends)
        best = measure(thresholds)
    else:
        steepest = _steepest(neuron_layers, settings)
        wanted = one_bit - settings.accuracy_budget
        thresholds, best = choose(large, steepest, ends, wanted, measure, progress)
        if best.accuracy < wanted:
            progress("the same with corrected biases")
            again = choose(large, steepest, ends, wanted, measure_corrected, progress)
            # A frame or two more are no reason to depart from the trained biases.
            if again[1].accuracy > best.accuracy + _WORTH_CORRECTING:
                (thresholds, best), bias_corrected = again, True
    network = fit_widths(best.network, images)
    if settings.for_hardware:
        check_machine_can(network)
    final = _measure(network, images, labels)
    if final.accuracy != best.accuracy:
        raise ConversionError(f"{float_network.path}: widths must not change the answers; report this network")
    progress("where the accuracy went")
    theta_of, explained = named(thresholds), (images[:EXPLAINED], labels[:EXPLAINED])
    before = plain(thresholds) if bias_corrected else None
    return Conversion(
        network=network,
        thresholds=theta_of,
        accuracy_float=grey,
        accuracy_float_1bit=one_bit,
        accuracy_snn=final.accuracy,
        accumulations_per_frame=final.accumulations,
        frames=len(images),
        steps=explain(float_network, network, theta_of, *explained, uncorrected=before, rounding=rounded),
        groups_expanded=grouped if settings.for_hardware else (),
        bias_corrected=bias_corrected,
        notes=calibration.notes,
        warnings=_warnings(float_network, calibration, settings, network, final.accuracy),
    )


def _check_names(float_network: FloatNetwork, settings: Settings) -> None:
    """Refuse a layer that is to round and that there is not."""
    if isinstance(settings.rounding, tuple):
        names = [layer.name for layer in float_network.layers if layer.kind != "maxpool"]
        for name in settings.rounding:
            if name not in names:
                raise ConversionError(
                    f"{float_network.path}: layers that round must be of {', '.join(names)}, not {printable(name)!r}"
                )


def _coded(
    float_network: FloatNetwork, data: Dataset, settings: Settings, progress: Callable[[str], None]
) -> tuple[Settings, Dataset]:
    """The settings with limits of the input that are chosen, and the frames as the network takes them."""
    levels, first, step = settings.input_levels, settings.input_threshold, settings.input_step
    shape, classes = float_network.input_shape, max(2, float_network.outputs)
    some = data.first(EXPLAINED).fitted(shape, classes=classes, threshold=0)
    coding = choose_coding(
        levels,
        first,
        step,
        images=some.images,
        accuracy=lambda frames: _accuracy(float_network.scores(frames.astype(np.float32)), some.labels),
        budget=settings.accuracy_budget,
    )
    if levels > 1:
        progress(f"input: {levels} levels, above {coding.first} and for each {coding.step} more")
    settings = replace(
        settings, input_threshold=coding.first, input_step=coding.step if levels > 1 else None
    )
    return settings, data.fitted(shape, classes=classes, threshold=coding.first)


def _warnings(
    float_network: FloatNetwork, data: Dataset, settings: Settings, network: Network, accuracy: float
) -> tuple[str, ...]:
    """What speaks against the result: another scale of pixels suits the network better, or it does no better than chance."""
    some = data.first(EXPLAINED)
    grey, coded = some.images.astype(np.float32) / 255, settings.coding.frames(some.images).astype(np.float32)

    def answer(frames: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
        return answers(float_network.scores(frames))

    float_answers, other = answer(grey), other_scale(answer, (grey, coded), some.labels)
    if other is not None and other[2] > accuracy:
        scale, options, share = other
        remedy = f"give {options}" if float_network.factors is None else "other --scale, --mean or --std suit it better"
        return (
            f"the float network is right on {(float_answers == some.labels).mean():.1%} of {len(some):,} frames with pixels of "
            f"0..1, and on {share:.1%} with pixels of {scale}: it was probably trained on those; {remedy}",
        )
    spiking = answers(run_frames(network, some.images).counts)
    return tuple(
        warn_of_chance("the float network", float_answers, some.labels)
        or warn_of_chance("the spiking network", spiking, some.labels)
    )


def _named_choices(settings: Settings) -> list[str]:
    """What of the settings is not usual, in words."""
    named = settings.rounding_chosen if isinstance(settings.rounding_chosen, tuple) else ()
    choices = {
        f"levels {settings.levels}": settings.levels is not None,
        "firing deferred": settings.firing == "deferred",
        "rounding": settings.rounding_chosen is True,
        f"rounding of {', '.join(named)}": bool(named),
        f"bursts of {settings.burst or 'any number'}": settings.burst != 1,
        "thresholds by channel": settings.channel_thresholds,
    }
    return [words for words, chosen in choices.items() if chosen]


def _steepest(layers: Sequence[FloatLayer], settings: Settings) -> list[float]:
    """The least that a layer's threshold can be for each unit of the one before (`model.conversion.search.thresholds_of`)."""
    largest = [float(np.abs(layer.weights).max()) for layer in layers if layer.weights is not None]
    return [weight / ((1 << settings.weight_bits - 1) - 1) for weight in largest]


def _accuracy(scores: npt.NDArray[np.number], labels: npt.NDArray[np.int64]) -> float:
    return float((answers(scores) == labels).mean())


def _large(layer: FloatLayer, values: npt.NDArray[np.floating]) -> float:
    """A large activation of a layer, given what goes into its ReLU: a measure of its own, whatever the scale of its weights."""
    sizes = layer.activated(values) if layer.relu else np.abs(values)
    # What rounding leaves where sums cancel is no activation.
    found = sizes[sizes > _ROUNDING * np.abs(values).max()]
    if not len(found):
        # Nothing fires: the layer's scale is that of what stays below zero.
        return float(np.abs(values).max()) or 1.0
    return float(np.percentile(found, _LARGE))


def _measure(network: Network, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> Measured:
    found = run_frames(network, images)
    return Measured(
        accuracy=_accuracy(found.counts, labels),
        accuracy_potential=_accuracy(found.potentials, labels),
        accumulations=float(found.operations.sum(axis=1).mean()),
        network=network,
    )


def convert_file(
    path: Path | str,
    *,
    calibrate: str = "digits5k",
    data_dir: Path | None = None,
    settings: Settings | None = None,
    name: str | None = None,
    limit: int = 2000,
    layout: str | None = None,
    output: str | None = None,
    normalization: Normalization = AS_THEY_ARE,
    progress: Callable[[str], None] = lambda text: None,
) -> Conversion:
    """Convert an ONNX file with the training split of data set ``calibrate`` (a name or an ``.npz`` file).

    ``layout``, ``output`` and ``normalization`` say what the file does not (`model.importers.onnx.examine`).
    """
    settings = settings or Settings()
    name = name if name is not None else safe_name(Path(path).stem)
    if not is_safe_name(name):
        raise NetworkError(f"network's name must be {SAFE_NAME}, not {name!r}")
    data = load(calibrate, "train", data_dir)
    float_network = import_onnx(
        path, layout=layout, input_shape=data.images.shape[1:], output=output, normalization=normalization
    )
    classes, calibrated = np.unique(data.labels), np.unique(data.labels[:limit])
    if 2 * len(calibrated) <= len(classes):
        raise DataError(
            f"{data.name}: the first {limit:,} frames must hold more than half of the {len(classes)} classes, not only "
            f"{', '.join(map(str, calibrated))}; shuffle the data or raise --frames"
        )
    data = replace(data, images=data.images[:limit], labels=data.labels[:limit])
    label = "all thresholds " + f"{settings.threshold:g}" if settings.threshold is not None else "thresholds chosen"
    label = ", ".join(filter(None, (str(normalization), label, *_named_choices(settings))))
    origin = printable(f"{Path(path).name}, {label} on {len(data.images)} frames of {data.name}")
    return convert(float_network, data, settings, name=name, origin=origin, progress=progress)
