"""Conversion: thresholds and widths chosen on calibration data, and what the network lost on the way."""

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.arrays import Floats
from model.conversion.chance import other_scale, warn_of_chance
from model.conversion.channels import channel_scales, with_scales
from model.conversion.coding import InputCoding, choose_coding
from model.conversion.correction import corrected, mean_sums
from model.conversion.explain import Step, explain
from model.conversion.fewest import Fewest, Search, Tried
from model.conversion.from_quantized import Exactness, check_options, from_quantized
from model.conversion.quantize import Settings, fit_widths, quantize
from model.conversion.quantized_frames import QuantizedFrames, run_images
from model.conversion.search import OUTPUT_LEVELS, Measured, choose, thresholds_of
from model.engine.engine import FrameSummaries, run_frames
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
"""Accuracy that corrected biases, or wider weights, must bring."""

_WORTH_OTHERS = 0.8
"""Part of the accumulations that is left where corrected biases are worth it for these."""

_WEIGHT_BITS = (8, 12, 16)
"""Widths of weights that are tried, each where the accuracy is out of reach with that before it."""

_INPUT_LEVELS = (1, 2, 4, 8, 16, 32, 64, 128)
"""Levels of the input that are tried, likewise."""

_SIMULATED = 20
"""Calibration frames on which the network is simulated in the end, where the search did without."""

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
    quantized : tuple[Exactness, ...]
        Of a quantized file, how near the counts of each layer are to its levels; empty of any other.
    bias_corrected : bool
        Whether biases make up for rounding (`model.conversion.correction`), as without it the accuracy was out of reach.
    macs_per_frame : int
        Multiplications of the float network.
    levels : dict[str, float]
        Thresholds that a large activation of each neuron layer is worth; empty where they were not chosen so.
    tried : tuple[Tried, ...]
        What a search on the quantized network measured, in order.
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
    macs_per_frame: int = 0
    levels: dict[str, float] = field(default_factory=dict)
    tried: tuple[Tried, ...] = ()
    quantized: tuple[Exactness, ...] = ()


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
    if float_network.quantized:
        return _from_quantized(float_network, calibration, settings, name=name, origin=origin)
    macs = float_network.macs
    grouped = tuple(layer.name for layer in float_network.layers if layer.groups > 1)
    if settings.for_hardware:
        float_network = hardware_form(float_network)
    _check_names(float_network, settings)
    settings, calibration = _coded(float_network, calibration, settings, progress)
    images, labels = calibration.images, calibration.labels
    grey = _accuracy(float_network.scores(images.astype(np.float32) / 255), labels)
    coded = _accuracy(float_network.scores(settings.coding.frames(images).astype(np.float32)), labels)
    job = _job(float_network, settings, images, labels, name=name, origin=origin, progress=progress)
    if settings.searches_exactly:
        # Where input levels were chosen to keep up with the float network, the whole conversion is to.
        near = coded >= grey - settings.accuracy_budget
        chosen = _search_exactly(job, (max(grey, coded) if near else coded) - settings.accuracy_budget)
    else:
        chosen = _choose(job, coded - settings.accuracy_budget)
    job, theta_of = chosen.job, chosen.job.named(chosen.thresholds)
    network = fit_widths(chosen.measured.network, images)
    if settings.for_hardware:
        check_machine_can(network)
    final = job.measure(network)
    if final.accuracy != chosen.measured.accuracy:
        raise ConversionError(f"{float_network.path}: widths must not change the answers; report this network")
    _check_engine(network, images)
    progress("where the accuracy went")
    explained = (images[:EXPLAINED], labels[:EXPLAINED])
    before = job.network(chosen.thresholds) if chosen.corrected else None
    return Conversion(
        network=network,
        thresholds=theta_of,
        accuracy_float=grey,
        accuracy_float_1bit=coded,
        accuracy_snn=final.accuracy,
        accumulations_per_frame=final.accumulations,
        frames=len(images),
        steps=explain(job.floats, network, theta_of, *explained, uncorrected=before, rounding=job.rounding),
        groups_expanded=grouped if settings.for_hardware else (),
        bias_corrected=chosen.corrected,
        notes=calibration.notes,
        warnings=_warnings(job.floats, calibration, settings, network, final.accuracy),
        macs_per_frame=macs,
        levels=dict(zip(theta_of, chosen.levels, strict=False)),
        tried=chosen.tried,
    )


def _from_quantized(
    floats: FloatNetwork, calibration: Dataset, settings: Settings, *, name: str, origin: str
) -> Conversion:
    """Of a quantized network: its levels are counts, and nothing is chosen."""
    data = calibration.fitted(floats.input_shape, classes=max(2, floats.outputs), threshold=0)
    found = from_quantized(floats, data.images, settings, name=name, origin=origin)
    network = found.network
    if settings.for_hardware:
        check_machine_can(network)
    file = _accuracy(floats.scores(data.images.astype(np.float32) / 255), data.labels)
    spiking = run_images(network, data.images)
    accuracy = _accuracy(spiking.counts, data.labels)
    coded = replace(
        settings,
        input_levels=network.input_levels,
        input_threshold=network.input_threshold,
        input_step=network.input_step,
    )
    return Conversion(
        network=network,
        thresholds=found.thresholds,
        accuracy_float=file,
        accuracy_float_1bit=file,
        accuracy_snn=accuracy,
        accumulations_per_frame=float(spiking.operations.sum(axis=1).mean()),
        frames=len(data),
        macs_per_frame=floats.macs,
        steps=(
            Step("quantized file", "", file, 0.0),
            Step("last place", "", accuracy, round(file - accuracy, 6)),
        ),
        groups_expanded=tuple(la.name for la in floats.layers if la.groups > 1) if settings.for_hardware else (),
        notes=(*data.notes, *found.notes),
        warnings=_warnings(floats, data, coded, network, accuracy),
        quantized=found.layers,
    )


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A float network that is to be converted, and what has been found out about it.

    Parameters
    ----------
    floats : FloatNetwork
        The network, with the scales of its channels folded in.
    settings : Settings
        The coding of the input is chosen.
    large : list of float
        A large activation of each layer of neurons.
    means : callable
        What biases are corrected to (`model.conversion.correction.mean_sums`).
    run : callable
        Runs the calibration frames.
    """

    floats: FloatNetwork
    settings: Settings
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    name: str
    origin: str
    large: list[float]
    means: Callable[[], dict[str, Floats]]
    run: Callable[[Network], FrameSummaries]
    progress: Callable[[str], None]

    @property
    def layers(self) -> list[FloatLayer]:
        """Those of neurons."""
        return [layer for layer in self.floats.layers if layer.kind != "maxpool"]

    @property
    def ends(self) -> list[float | None]:
        """Where their activations end."""
        return [layer.end for layer in self.layers]

    @property
    def steepest(self) -> list[float]:
        """The least that a layer's threshold can be for each unit of the one before (`model.conversion.search.thresholds_of`)."""
        largest = [float(np.abs(layer.weights).max()) for layer in self.layers if layer.weights is not None]
        return [weight / ((1 << self.settings.bits - 1) - 1) for weight in largest]

    @property
    def rounding(self) -> list[str]:
        """The layers that round."""
        return [layer.name for layer in self.layers if self.settings.rounds(layer.name)]

    def named(self, thresholds: Sequence[float]) -> dict[str, float]:
        """Thresholds by layer."""
        return {layer.name: theta for layer, theta in zip(self.layers, thresholds, strict=True)}

    def network(self, thresholds: Sequence[float]) -> Network:
        """The integer network."""
        return quantize(self.floats, thresholds, self.settings, name=self.name, origin=self.origin)

    def corrected(self, thresholds: Sequence[float]) -> Network:
        """The same with corrected biases."""
        named, images = self.named(thresholds), self.images[:_CORRECTED]
        return corrected(self.means(), self.network(thresholds), named, images, rounding=self.rounding)

    def measurer(self, correcting: bool) -> Callable[[Sequence[float]], Measured]:
        """What networks of some thresholds do, with corrected biases or without."""
        made = self.corrected if correcting else self.network
        return lambda thresholds: self.measure(made(thresholds))

    def measure(self, network: Network) -> Measured:
        """What a network does on the calibration frames."""
        found = self.run(network)
        return Measured(
            accuracy=_accuracy(found.counts, self.labels),
            accuracy_potential=_accuracy(found.potentials, self.labels),
            accumulations=float(found.operations.sum(axis=1).mean()),
            network=network,
        )


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """What was settled on; ``levels`` is empty where they say nothing."""

    job: _Job
    thresholds: Sequence[float]
    measured: Measured
    levels: Sequence[float] = ()
    tried: tuple[Tried, ...] = ()
    corrected: bool = False


def _job(
    floats: FloatNetwork, settings: Settings, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], **more: Any
) -> _Job:
    """Large activations, and channels scaled by theirs."""
    layers = [layer for layer in floats.layers if layer.kind != "maxpool"]
    activations = floats.run(settings.coding.frames(images).astype(np.float32), [layer.tensor for layer in layers])
    large = [_large(layer, values) for layer, values in zip(layers, activations, strict=True)]
    if settings.channel_thresholds:
        hidden = zip(layers[:-1], activations, large, strict=False)
        floats = with_scales(floats, [channel_scales(layer, values, most) for layer, values, most in hidden])

    def simulate(network: Network) -> FrameSummaries:
        return run_frames(network, images)

    run = QuantizedFrames(images).run if settings.firing == "deferred" else simulate
    means = functools.cache(lambda: mean_sums(floats, settings.coding, images[:_CORRECTED]))
    return _Job(floats=floats, settings=settings, images=images, labels=labels, large=large, means=means, run=run, **more)


def _choose(job: _Job, wanted: float) -> _Chosen:
    """Thresholds as they are given, or by a search that simulates."""
    settings, large = job.settings, job.large
    measure = job.measurer(False)
    if settings.threshold is not None:
        thresholds = [settings.threshold] * len(large)
        return _Chosen(job=job, thresholds=thresholds, measured=measure(thresholds))
    if settings.levels is not None:
        levels = [settings.levels] * (len(large) - 1) + [OUTPUT_LEVELS]
        thresholds = thresholds_of(levels, large, job.steepest, job.ends)
        return _Chosen(job=job, thresholds=thresholds, measured=measure(thresholds), levels=levels)
    scale = (large, job.steepest, job.ends)
    thresholds, best = choose(*scale, wanted, measure, job.progress)
    if best.accuracy < wanted:
        job.progress("the same with corrected biases")
        again = choose(*scale, wanted, job.measurer(True), job.progress)
        # A frame or two more are no reason to depart from the trained biases.
        if again[1].accuracy > best.accuracy + _WORTH_CORRECTING:
            return _Chosen(job=job, thresholds=again[0], measured=again[1], corrected=True)
    return _Chosen(job=job, thresholds=thresholds, measured=best)


def _search_exactly(job: _Job, wanted: float) -> _Chosen:
    """Thresholds, by a search on the quantized network; corrected biases, and wider weights, where they are worth it."""
    given = job.settings.weight_bits
    tried: list[Tried] = []
    best: tuple[Search, Fewest, _Job, bool] | None = None
    for bits in _WEIGHT_BITS if given is None else (given,):
        attempt = replace(job, settings=replace(job.settings, weight_bits=bits))
        for correcting in (False, True):
            if best is not None:
                job.progress(f"the same with weights of {bits} bits{' and corrected biases' if correcting else ''}")
            scale, measure = (job.large, attempt.steepest, job.ends), attempt.measurer(correcting)
            search = Search(*scale, measure, job.progress, weight_bits=bits, bias_corrected=correcting)
            found = search.enough(wanted)
            tried += search.tried
            if best is None or _worth_more(found.measured, best[1].measured, wanted):
                best = search, found, attempt, correcting
        assert best is not None
        if best[1].measured.accuracy >= wanted:
            break
    assert best is not None
    search, found, job, correcting = best
    before = len(search.tried)
    found = search.lowered(found, wanted)
    return _Chosen(
        job=job,
        thresholds=found.thresholds,
        measured=found.measured,
        levels=found.levels,
        tried=(*tried, *search.tried[before:]),
        corrected=correcting,
    )


def _worth_more(found: Measured, best: Measured, wanted: float) -> bool:
    """Whether something is worth departing from 8 bits or from the trained biases: a frame or two, or a spike or two, are not."""
    if best.accuracy < wanted:
        return found.accuracy > best.accuracy + _WORTH_CORRECTING
    return found.accuracy >= wanted and found.accumulations < best.accumulations * _WORTH_OTHERS


def _check_engine(network: Network, images: npt.NDArray[np.uint8]) -> None:
    """Hold the engine, which simulates events, against the quantized network where that was measured in its place."""
    few = images[:_SIMULATED]
    engine, quantized = run_frames(network, few), run_images(network, few)
    if (engine.counts != quantized.counts).any() or (engine.operations != quantized.operations).any():
        raise ConversionError(f"{network.name}: spikes must be the quantized network's; report this network")


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
    shape, classes = float_network.input_shape, max(2, float_network.outputs)
    some = data.first(EXPLAINED).fitted(shape, classes=classes, threshold=0)

    def accuracy(frames: npt.NDArray[np.floating]) -> float:
        return _accuracy(float_network.scores(frames.astype(np.float32)), some.labels)

    def coding_of(levels: int) -> InputCoding:
        given, budget = (settings.input_threshold, settings.input_step), settings.accuracy_budget
        return choose_coding(levels, *given, images=some.images, accuracy=accuracy, budget=budget)

    coding = coding_of(settings.input_levels or 1)
    if settings.searches_exactly and settings.input_levels is None and settings.input_threshold is None:
        coding = _enough_levels(float_network, data.fitted(shape, classes=classes, threshold=0), settings, coding_of)
    if coding.levels > 1:
        progress(f"input: {coding.levels} levels, above {coding.first} and for each {coding.step} more")
    settings = replace(
        settings,
        input_levels=coding.levels,
        input_threshold=coding.first,
        input_step=coding.step if coding.levels > 1 else None,
    )
    return settings, data.fitted(shape, classes=classes, threshold=coding.first)


def _enough_levels(
    float_network: FloatNetwork, data: Dataset, settings: Settings, coding_of: Callable[[int], InputCoding]
) -> InputCoding:
    """The fewest levels with which the input takes no more than half of the budget; else those with which it takes least."""
    wanted = _accuracy(float_network.scores(data.images.astype(np.float32) / 255), data.labels) - settings.accuracy_budget / 2
    best: tuple[float, InputCoding] | None = None
    for levels in _INPUT_LEVELS:
        coding = coding_of(levels)
        found = _accuracy(float_network.scores(coding.frames(data.images).astype(np.float32)), data.labels)
        if best is None or found > best[0]:
            best = found, coding
        if found >= wanted:
            break
    assert best is not None
    return best[1]


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
    spiking = answers(run_images(network, some.images).counts)
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
    given: Collection[str] = (),
    progress: Callable[[str], None] = lambda text: None,
) -> Conversion:
    """Convert an ONNX file with the training split of data set ``calibrate`` (a name or an ``.npz`` file).

    ``layout``, ``output`` and ``normalization`` say what the file does not (`model.importers.onnx.examine`). ``given`` are the
    options of the command line that were given, of which a quantized file suits only some.
    """
    settings = settings or Settings()
    name = name if name is not None else safe_name(Path(path).stem)
    if not is_safe_name(name):
        raise NetworkError(f"network's name must be {SAFE_NAME}, not {name!r}")
    data = load(calibrate, "train", data_dir)
    float_network = import_onnx(
        path, layout=layout, input_shape=data.images.shape[1:], output=output, normalization=normalization
    )
    if float_network.quantized:
        check_options(float_network.path, given)
    classes, calibrated = np.unique(data.labels), np.unique(data.labels[:limit])
    if 2 * len(calibrated) <= len(classes):
        raise DataError(
            f"{data.name}: the first {limit:,} frames must hold more than half of the {len(classes)} classes, not only "
            f"{', '.join(map(str, calibrated))}; shuffle the data or raise --frames"
        )
    data = replace(data, images=data.images[:limit], labels=data.labels[:limit])
    label = "all thresholds " + f"{settings.threshold:g}" if settings.threshold is not None else "thresholds chosen"
    choices = [label, *_named_choices(settings)]
    if float_network.quantized:
        choices = ["quantized file", "firing deferred"]
    label = ", ".join(filter(None, (str(normalization), *choices)))
    origin = printable(f"{Path(path).name}, {label} on {len(data.images)} frames of {data.name}")
    return convert(float_network, data, settings, name=name, origin=origin, progress=progress)
