"""What a conversion settles on: coding of the input, thresholds, biases and widths of weights, given or searched for."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model.arrays import Floats
from model.conversion.channels import channel_scales, with_scales
from model.conversion.coding import InputCoding, choose_coding
from model.conversion.correction import corrected, mean_sums
from model.conversion.fewest import Fewest, Search, Tried
from model.conversion.quantize import Settings, quantize
from model.conversion.quantized_frames import QuantizedFrames
from model.conversion.search import OUTPUT_LEVELS, Measured, choose, thresholds_of
from model.engine.engine import FrameSummaries, run_frames
from model.golden import answers
from model.importers.float_network import ConversionError, FloatLayer, FloatNetwork
from model.network import Network
from model.support.datasets import Dataset
from model.support.names import printable

__all__ = ["EXPLAINED", "Job", "Settled", "accuracy_of", "prepared", "settle"]

EXPLAINED = 500
"""Calibration frames on which it is found where the accuracy went."""

_OF_THE_INPUT = 0.75
"""Part of the accuracy budget that levels of the input may take where they are chosen."""

_CORRECTED = 200
"""Calibration frames on which biases are corrected."""

_WORTH_CORRECTING = 0.002
"""Accuracy that corrected biases, or wider weights, must bring."""

_WORTH_OTHERS = 0.8
"""Part of the accumulations that is left where corrected biases are worth it for these."""

_WEIGHT_BITS = (8, 12, 16)
"""Widths of weights that are tried, each where the accuracy is out of reach with that before it."""

_INPUT_LEVELS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128)
"""Levels of the input that are tried, likewise."""

_LARGE = 99.0
"""Percentile of the positive activations that counts as a large one."""

_ROUNDING = 1e-7
"""Part of the largest potential of a layer that float32 may be off by."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A float network that is to be converted, and what has been found out about it.

    Parameters
    ----------
    floats : FloatNetwork
        The network, with the scales of its channels folded in.
    settings : Settings
        The coding of the input is chosen.
    data : Dataset
        The calibration frames as the network takes them.
    large : list of float
        A large activation of each layer of neurons.
    means : callable
        What biases are corrected to (`model.conversion.correction.mean_sums`).
    run : callable
        Runs the calibration frames.
    """

    floats: FloatNetwork
    settings: Settings
    data: Dataset
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
        named, images = self.named(thresholds), self.data.images[:_CORRECTED]
        return corrected(self.means(), self.network(thresholds), named, images, rounding=self.rounding)

    def measurer(self, correcting: bool) -> Callable[[Sequence[float]], Measured]:
        """What networks of some thresholds do, with corrected biases or without."""
        made = self.corrected if correcting else self.network
        return lambda thresholds: self.measure(made(thresholds))

    def measure(self, network: Network) -> Measured:
        """What a network does on the calibration frames."""
        found = self.run(network)
        return Measured(
            accuracy=accuracy_of(found.counts, self.data.labels),
            accuracy_potential=accuracy_of(found.potentials, self.data.labels),
            accumulations=float(found.operations.sum(axis=1).mean()),
            network=network,
        )


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What was settled on.

    Parameters
    ----------
    job : Job
        The network, and the settings with all that was chosen.
    thresholds : sequence of float
        Of each layer of neurons.
    measured : Measured
        The integer network at full widths, on the calibration frames.
    wanted : float or None
        The accuracy that a search was to reach.
    levels : sequence of float
        Of each layer of neurons; empty where they say nothing.
    tried : tuple of Tried
        What an exact search measured.
    corrected : bool
        Whether biases are corrected.
    accuracy_float, accuracy_coded : float
        The float network's, on frames as they are and on coded ones.
    """

    job: Job
    thresholds: Sequence[float]
    measured: Measured
    wanted: float | None = None
    levels: Sequence[float] = ()
    tried: tuple[Tried, ...] = ()
    corrected: bool = False
    accuracy_float: float = 0.0
    accuracy_coded: float = 0.0


def settle(
    float_network: FloatNetwork,
    calibration: Dataset,
    settings: Settings,
    *,
    name: str = "net",
    origin: str = "",
    progress: Callable[[str], None] = lambda text: None,
) -> Settled:
    """Choose what is not given.

    Raises
    ------
    ConversionError : the network does not suit
    DataError : the frames do not suit the network
    """
    job = prepared(float_network, calibration, settings, name=name, origin=origin, progress=progress)
    settings, images, labels = job.settings, job.data.images, job.data.labels
    grey = accuracy_of(float_network.scores(images.astype(np.float32) / 255), labels)
    coded = accuracy_of(float_network.scores(settings.coding.frames(images).astype(np.float32)), labels)
    # Where input levels are chosen, they are to keep up with the float network, and so is the whole.
    keeps_up = settings.searches_exactly and coded >= grey - settings.accuracy_budget * _OF_THE_INPUT
    wanted = (max(grey, coded) if keeps_up else coded) - settings.accuracy_budget
    search = _search_exactly if settings.searches_exactly else _choose
    return replace(search(job, wanted), accuracy_float=grey, accuracy_coded=coded)


def prepared(
    floats: FloatNetwork,
    calibration: Dataset,
    settings: Settings,
    *,
    name: str = "net",
    origin: str = "",
    progress: Callable[[str], None] = lambda text: None,
) -> Job:
    """Choose the coding of the input, and measure large activations; channels are scaled by theirs.

    Raises
    ------
    ConversionError, DataError
        As `settle`.
    """
    _check_names(floats, settings)
    settings, data = _coded(floats, calibration, settings, progress)
    images = data.images
    layers = [layer for layer in floats.layers if layer.kind != "maxpool"]
    activations = floats.run(settings.coding.frames(images).astype(np.float32), [layer.tensor for layer in layers])
    large = [_large(layer, values) for layer, values in zip(layers, activations, strict=True)]
    if settings.channel_thresholds:
        hidden = zip(layers[:-1], activations, large, strict=False)
        floats = with_scales(floats, [channel_scales(layer, values, most) for layer, values, most in hidden])

    def simulate(network: Network) -> FrameSummaries:
        return run_frames(network, images)

    run = QuantizedFrames(images).run if settings.deferred else simulate
    means = functools.cache(lambda: mean_sums(floats, settings.coding, images[:_CORRECTED]))
    told = {"name": name, "origin": origin, "progress": progress}
    return Job(floats=floats, settings=settings, data=data, large=large, means=means, run=run, **told)  # type: ignore[arg-type]


def _choose(job: Job, wanted: float) -> Settled:
    """Thresholds as they are given, or by a search that simulates."""
    settings, large = job.settings, job.large
    measure = job.measurer(False)
    if settings.threshold is not None:
        thresholds = [settings.threshold] * len(large)
        return Settled(job=job, thresholds=thresholds, measured=measure(thresholds))
    if settings.levels is not None:
        levels = [settings.levels] * (len(large) - 1) + [OUTPUT_LEVELS]
        thresholds = thresholds_of(levels, large, job.steepest, job.ends)
        return Settled(job=job, thresholds=thresholds, measured=measure(thresholds), levels=levels)
    scale, bursts = (large, job.steepest, job.ends), settings.burst != 1
    thresholds, best = choose(*scale, wanted, measure, job.progress, bursts=bursts)
    if best.accuracy < wanted:
        job.progress("the same with corrected biases")
        again = choose(*scale, wanted, job.measurer(True), job.progress, bursts=bursts)
        # A frame or two more are no reason to depart from the trained biases.
        if again[1].accuracy > best.accuracy + _WORTH_CORRECTING:
            return Settled(job=job, thresholds=again[0], measured=again[1], wanted=wanted, corrected=True)
    return Settled(job=job, thresholds=thresholds, measured=best, wanted=wanted)


def _search_exactly(job: Job, wanted: float) -> Settled:
    """Thresholds, by a search on the quantized network; corrected biases, and wider weights, where they are worth it."""
    given = job.settings.weight_bits
    tried: list[Tried] = []
    best: tuple[Search, Fewest, Job, bool] | None = None
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
    return Settled(
        job=job,
        thresholds=found.thresholds,
        measured=found.measured,
        wanted=wanted,
        levels=found.levels,
        tried=(*tried, *search.tried[before:]),
        corrected=correcting,
    )


def _worth_more(found: Measured, best: Measured, wanted: float) -> bool:
    """Whether something is worth departing from 8 bits or from the trained biases: a frame or two, or a spike or two, are not."""
    if best.accuracy < wanted:
        return found.accuracy > best.accuracy + _WORTH_CORRECTING
    return found.accuracy >= wanted and found.accumulations < best.accumulations * _WORTH_OTHERS


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
        return accuracy_of(float_network.scores(frames.astype(np.float32)), some.labels)

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
    """The fewest levels with which the input takes no more than its part of the budget; else those with which it takes least."""
    grey = accuracy_of(float_network.scores(data.images.astype(np.float32) / 255), data.labels)
    wanted = grey - settings.accuracy_budget * _OF_THE_INPUT
    best: tuple[float, InputCoding] | None = None
    for levels in _INPUT_LEVELS:
        coding = coding_of(levels)
        found = accuracy_of(float_network.scores(coding.frames(data.images).astype(np.float32)), data.labels)
        if best is None or found > best[0]:
            best = found, coding
        if found >= wanted:
            break
    assert best is not None
    return best[1]


def accuracy_of(scores: npt.NDArray[np.number], labels: npt.NDArray[np.int64]) -> float:
    """The part of frames of which scores ``(frames, outputs)`` give the right answer."""
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
