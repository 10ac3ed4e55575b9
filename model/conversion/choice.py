"""What a conversion settles on: coding of the input, thresholds, biases and widths of weights, given or searched for."""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from model.arrays import Floats, Images
from model.conversion.chance import SIGNIFICANCE
from model.conversion.channels import channel_scales, with_scales
from model.conversion.coding import InputCoding, choose_coding
from model.conversion.constant_channels import without_constant_parts, without_unread
from model.conversion.correction import corrected, greatest_sums, mean_sums
from model.conversion.fewest import SAME, Fewest, Search, Tried
from model.conversion.margins import Margins
from model.conversion.quantize import Settings, quantize
from model.conversion.quantized_frames import QuantizedFrames
from model.conversion.search import OUTPUT_LEVELS, Measured, choose, thresholds_of
from model.engine.engine import FrameSummaries, run_frames
from model.golden import answers
from model.importers.float_network import ConversionError, FloatLayer, FloatNetwork
from model.network import INPUT, Network
from model.support.datasets import Dataset
from model.support.names import printable

__all__ = ["EXPLAINED", "Job", "Settled", "accuracy_of", "prepared", "settle"]

EXPLAINED = 500
"""Calibration frames on which it is found where the accuracy went."""

_OF_THE_INPUT = (0.5, 0.1)
"""Parts of the accuracy budget that levels of the input may take where they are chosen; so many are tried."""

_ONE_BIT = 0.05
"""Probability with which luck may be taken for a network that was trained on one bit a pixel.

More than elsewhere, as its limit is not picked among many: few frames are to tell such a network, too.
"""

_SEARCHED = 500
"""Calibration frames that a search measures networks on, with the float network's margins on all of them; the result on all."""

_SCALED = 2000
"""Calibration frames whose activations say how large one is."""

_CORRECTED = 500
"""Calibration frames, the last, on which biases are corrected."""

_REACHED = 100
"""Calibration frames that say how far sums go, where it is not certain that all fit."""

_STEPS_BACK = (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22)
"""Steps to fewer levels, from the last, that are tried on all frames until one reaches the accuracy there."""

_WORTH_CORRECTING = 0.002
"""Accuracy that corrected biases, or wider weights, must bring."""

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
    margins : Margins
        What the float network says of them as they are coded.
    wanted : float
        The accuracy that is wanted.
    large : list of float
        A large activation of each layer of neurons.
    means : callable
        What biases are corrected to (`model.conversion.correction.mean_sums`).
    reached : callable
        The greatest sums of layers (`model.conversion.correction.greatest_sums`).
    run : callable
        Runs the calibration frames.
    run_some : callable
        Runs the first `_SEARCHED` of them.
    """

    floats: FloatNetwork
    settings: Settings
    data: Dataset
    margins: Margins
    wanted: float
    name: str
    origin: str
    large: list[float]
    means: Callable[[], dict[str, Floats]]
    reached: Callable[[], dict[str, float]]
    run: Callable[[Network], FrameSummaries]
    run_some: Callable[[Network], FrameSummaries]
    progress: Callable[[str], None]

    @property
    def layers(self) -> list[FloatLayer]:
        """Those of neurons."""
        return [layer for layer in self.floats.layers if layer.kind != "maxpool"]

    @property
    def relied_on(self) -> float:
        """The accuracy to expect that is as good as what is wanted: to a frame in two thousand."""
        return self.wanted - SAME

    @property
    def ends(self) -> list[float | None]:
        """Where their activations end."""
        return [layer.end for layer in self.layers]

    @property
    def steepest(self) -> list[dict[int, float]]:
        """The least that a layer's threshold can be for each unit of those before (`model.conversion.search.thresholds_of`)."""
        most, number = (1 << self.settings.bits - 1) - 1, {INPUT: -1}
        found: list[dict[int, float]] = []
        for layer in self.floats.layers:
            number[layer.name] = number[layer.source]
            if layer.kind == "maxpool":
                continue
            slopes: dict[int, float] = {}
            for taken in layer.inputs:
                assert taken.weights is not None
                before = number[taken.source]
                slopes[before] = max(slopes.get(before, 0.0), float(np.abs(taken.weights).max()) / most)
            number[layer.name] = len(found)
            found.append(slopes)
        return found

    @property
    def rounding(self) -> list[str]:
        """The layers that round."""
        return [layer.name for layer in self.layers if self.settings.rounds(layer.name)]

    def named(self, thresholds: Sequence[float]) -> dict[str, float]:
        """Thresholds by layer."""
        return {layer.name: theta for layer, theta in zip(self.layers, thresholds, strict=True)}

    def thresholds(self, levels: Sequence[float]) -> list[float]:
        """What levels stand for."""
        return thresholds_of(levels, self.large, self.steepest, self.ends)

    def network(self, thresholds: Sequence[float]) -> Network:
        """The integer network."""
        names = {"name": self.name, "origin": self.origin}
        return quantize(self.floats, thresholds, self.settings, large=self.large, reached=self.reached, **names)

    def corrected(self, thresholds: Sequence[float]) -> Network:
        """The same with corrected biases."""
        named, images = self.named(thresholds), self.data.images[-_CORRECTED:]
        return corrected(self.means(), self.network(thresholds), named, images, rounding=self.rounding)

    def measurer(self, correcting: bool, *, some: bool = False) -> Callable[[Sequence[float]], Measured]:
        """What networks of some thresholds do, with corrected biases or without."""
        made = self.corrected if correcting else self.network
        return lambda thresholds: self.measure(made(thresholds), some=some)

    def measure(self, network: Network, *, some: bool = False) -> Measured:
        """What a network does on the calibration frames, or on some of them."""
        found = (self.run_some if some else self.run)(network)
        labels, errors = self.data.labels[: len(found.counts)], self.margins.errors(found.counts)
        return Measured(
            accuracy=accuracy_of(found.counts, labels),
            accuracy_potential=accuracy_of(found.potentials, labels),
            accumulations=float(found.operations.sum(axis=1).mean()),
            network=network,
            expected=self.margins.expected(errors),
            error=self.margins.size(errors),
            room=self.margins.room(errors, self.relied_on),
            first=float(found.operations[:, 0].mean()),
            spikes=float(found.spikes.sum(axis=1).mean() + found.input_events.mean()),
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
    jobs, grey, coded = _jobs(float_network, calibration, settings, name=name, origin=origin, progress=progress)
    settled = _search_exactly(jobs) if settings.searches_exactly else _choose(jobs[0])
    return replace(settled, accuracy_float=grey, accuracy_coded=coded[settled.job.settings.coding])


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
    return _jobs(floats, calibration, settings, name=name, origin=origin, progress=progress)[0][0]


def _jobs(
    floats: FloatNetwork, calibration: Dataset, settings: Settings, *, progress: Callable[[str], None], **names: str
) -> tuple[list[Job], float, dict[InputCoding, float]]:
    """The network with each coding of the input that may be chosen; the float network's accuracy on frames, and coded ones."""
    _check_names(floats, settings)
    codings, full = _codings(floats, calibration, settings)
    shape, classes = floats.input_shape, max(2, floats.outputs)
    data = calibration.fitted(shape, classes=classes, threshold=min(coding.first for coding in codings))
    scores = {coding: floats.scores(coding.frames(data.images).astype(np.float32)) for coding in codings}
    coded = {coding: accuracy_of(found, data.labels) for coding, found in scores.items()}
    # Where input levels are chosen, they are to keep up with the float network, and so is the whole.
    promised = max(_promised(full, found, _doubt(coding)) for coding, found in scores.items())
    keeps_up = settings.searches_exactly and promised >= full.accuracy - settings.accuracy_budget * _OF_THE_INPUT[0]
    wanted = max([*coded.values(), *[full.accuracy] * keeps_up]) - settings.accuracy_budget
    jobs = []
    for coding, found in scores.items():
        if coding.levels > 1:
            progress(f"input: {coding.levels} levels, above {coding.first} and for each {coding.step} more")
        # What the coding takes is an error like any other then; unless the network was trained on frames like coded ones.
        errs = keeps_up and not full.surpassed_by(found, _doubt(coding))
        margins = full if errs else Margins(found.astype(np.float64), data.labels)
        aim = _grey if errs else coding.frames
        more = {"margins": margins, "wanted": wanted, "progress": progress, **names}
        jobs.append(_job(floats, _with(settings, coding), data, aim=aim, **more))
    return jobs, full.accuracy, coded


def _promised(full: Margins, scores: npt.NDArray[np.floating], doubt: float = SIGNIFICANCE) -> float:
    """The accuracy to expect of the float network on coded frames, by its scores of these and those of frames as they are."""
    return accuracy_of(scores, full.labels) if full.surpassed_by(scores, doubt) else full.expected(full.errors(scores))


def _doubt(coding: InputCoding) -> float:
    """The significance that is asked of a coding on which the float network is better than on frames as they are."""
    return _ONE_BIT if coding.levels == 1 else SIGNIFICANCE


def _grey(images: Images) -> Floats:
    """Frames as the float network takes them, full scale 1.0."""
    return images / 255


def _with(settings: Settings, coding: InputCoding) -> Settings:
    """The settings with a coding of the input."""
    step = coding.step if coding.levels > 1 else None
    return replace(settings, input_levels=coding.levels, input_threshold=coding.first, input_step=step)


def _job(
    floats: FloatNetwork, settings: Settings, data: Dataset, *, aim: Callable[[Images], Floats], **more: Any
) -> Job:
    """Large activations, and channels scaled by theirs; ``aim`` makes the frames whose sums biases are corrected to."""
    images = data.images
    layers = [layer for layer in floats.layers if layer.kind != "maxpool"]
    some = settings.coding.frames(images[:_SCALED]).astype(np.float32)
    activations = floats.run(some, [layer.tensor for layer in layers])
    if settings.threshold is None:
        floats, activations = _of_frames(floats, settings.coding, activations)
        layers = [layer for layer in floats.layers if layer.kind != "maxpool"]
    large = [_large(layer, values) for layer, values in zip(layers, activations, strict=True)]
    if settings.channel_thresholds:
        hidden = zip(layers[:-1], activations, large, strict=False)
        floats = with_scales(floats, [channel_scales(layer, values, most) for layer, values, most in hidden])

    def simulate(network: Network) -> FrameSummaries:
        return run_frames(network, images)

    run, run_some = simulate, simulate
    if settings.deferred:
        run, run_some = QuantizedFrames(images).run, QuantizedFrames(images[:_SEARCHED]).run
    means = functools.cache(lambda: mean_sums(floats, aim(images[-_CORRECTED:])))
    reached = functools.cache(lambda: greatest_sums(floats, settings.coding.frames(images[:_REACHED])))
    more = {"large": large, "means": means, "reached": reached, "run": run, "run_some": run_some, **more}
    return Job(floats=floats, settings=settings, data=data, **more)


def _of_frames(
    floats: FloatNetwork, coding: InputCoding, activations: Sequence[npt.NDArray[np.floating]]
) -> tuple[FloatNetwork, list[npt.NDArray[np.floating]]]:
    """The network without what says nothing of the frame, and its activations, of which those of such channels are 0."""
    floats, read = without_unread(floats)
    layers = [layer for layer in floats.layers if layer.kind != "maxpool"]
    values = [_kept(found, read[layer.name]) for layer, found in zip(layers, activations, strict=True)]
    named = {layer.name: found for layer, found in zip(layers, values, strict=True)}
    floats, parts = without_constant_parts(floats, named, max(1.0, coding.levels * coding.value), _large)
    *hidden, output = layers
    for index, layer in enumerate(hidden):
        if layer.name in parts:
            values[index] = _kept(values[index], parts[layer.name] == 0)
    if output.name in parts:
        values[-1] = values[-1] - parts[output.name][0]
    return floats, values


def _kept(values: npt.NDArray[np.floating], channels: npt.NDArray[np.bool_]) -> npt.NDArray[np.floating]:
    """Values ``(frames, channels, ...)``, 0 in all channels but these."""
    if channels.all():
        return values
    return np.where(channels[:, np.newaxis], values.reshape(len(values), len(channels), -1), 0).reshape(values.shape)


def _choose(job: Job) -> Settled:
    """Thresholds as they are given, or by a search that simulates."""
    settings, large, wanted = job.settings, job.large, job.wanted
    measure = job.measurer(False)
    if settings.threshold is not None:
        thresholds = [settings.threshold] * len(large)
        return Settled(job=job, thresholds=thresholds, measured=measure(thresholds))
    if settings.levels is not None:
        levels = [settings.levels] * (len(large) - 1) + [OUTPUT_LEVELS]
        thresholds = job.thresholds(levels)
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


@dataclass(frozen=True)
class _Attempt:
    """A way to make networks, and levels that are the same in all layers: with which it reaches the accuracy, if it can."""

    search: Search
    job: Job
    correcting: bool
    found: Fewest


def _search_exactly(jobs: Sequence[Job]) -> Settled:
    """Levels, by a search on the quantized network; those of the input, corrected biases, and wider weights as they are worth it.

    Parameters
    ----------
    jobs : sequence of Job
        The same network with levels of the input that may be chosen, the fewest first.
    """
    given, wanted, relied_on = jobs[0].settings.weight_bits, jobs[0].wanted, jobs[0].relied_on
    tried: list[Tried] = []
    best: _Attempt | None = None
    for bits in _WEIGHT_BITS if given is None else (given,):
        for job, correcting in itertools.product(jobs, (False, True)):
            if tried:
                coded = f", {job.settings.coding.levels} levels of the input" if len(jobs) > 1 else ""
                job.progress(f"the same with weights of {bits} bits{coded}{' and corrected biases' if correcting else ''}")
            wide = replace(job, settings=replace(job.settings, weight_bits=bits))
            search = _search(wide, correcting, tried)
            reached = best is not None and best.found.measured.expected >= relied_on
            try:
                # Where levels are enough once, they tell what the others are worth.
                found = search.at(best.found.levels) if best is not None and reached else search.enough(wanted, relied_on)
            except ConversionError:
                if best is None:
                    raise
                continue
            if best is None or _worth_more(found.measured, best.found.measured, relied_on):
                best = _Attempt(search, wide, correcting, found)
        assert best is not None
        if best.found.measured.expected >= relied_on:
            break
    assert best is not None
    found = _lowered(best)
    return Settled(
        job=best.job,
        thresholds=found.thresholds,
        measured=found.measured,
        wanted=wanted,
        levels=found.levels,
        tried=tuple(tried),
        corrected=best.correcting,
    )


def _search(job: Job, correcting: bool, tried: list[Tried]) -> Search:
    return Search(
        job.large,
        job.steepest,
        job.ends,
        job.measurer(correcting, some=True),
        job.progress,
        on_all=job.measure if len(job.data) > _SEARCHED else None,
        frames=(min(_SEARCHED, len(job.data)), len(job.data)),
        input_levels=job.settings.coding.levels,
        weight_bits=job.settings.bits,
        bias_corrected=correcting,
        tried=tried,
    )


def _lowered(attempt: _Attempt) -> Fewest:
    """Fewer levels, as few as all frames bear: from twice of what is enough, or from that, where twice ends above its cost."""
    search, wanted, relied_on = attempt.search, attempt.job.wanted, attempt.job.relied_on
    start = search.doubled(attempt.found)
    best = _last(search, search.lowered(start, relied_on), wanted, relied_on)
    if start is attempt.found or attempt.found.measured.cost >= best.measured.cost:
        return best
    other = _last(search, search.lowered(attempt.found, relied_on), wanted, relied_on)
    return other if other.measured.reaches(wanted, relied_on) else best


def _last(search: Search, path: Sequence[Fewest], wanted: float, relied_on: float) -> Fewest:
    """The last of a path that reaches the accuracy on all frames; else that which comes nearest of those that were tried."""
    # Some frames may promise what not all hold: then it is one of the last steps with which they do.
    steps = [step for step in _STEPS_BACK if step < len(path)]
    on_all = []
    for step in [*steps, len(path)]:
        on_all.append(search.on_all(path[-step]))
        if on_all[-1].measured.reaches(wanted, relied_on):
            return on_all[-1]
    return max(on_all, key=lambda found: min(found.measured.accuracy - wanted, found.measured.expected - relied_on))


def _worth_more(found: Measured, best: Measured, relied_on: float) -> bool:
    """Whether something is worth departing from fewer bits, fewer levels of the input, or the trained biases."""
    if best.expected < relied_on:
        # Out of reach a frame or two more are no reason.
        return found.expected >= relied_on or found.accuracy > best.accuracy + _WORTH_CORRECTING
    return found.price < best.price


def _check_names(float_network: FloatNetwork, settings: Settings) -> None:
    """Refuse a layer that is to round and that there is not."""
    if isinstance(settings.rounding, tuple):
        names = [layer.name for layer in float_network.layers if layer.kind != "maxpool"]
        for name in settings.rounding:
            if name not in names:
                raise ConversionError(
                    f"{float_network.path}: layers that round must be of {', '.join(names)}, not {printable(name)!r}"
                )


def _codings(float_network: FloatNetwork, data: Dataset, settings: Settings) -> tuple[list[InputCoding], Margins]:
    """How the input may be coded: as it is given, or with so few levels that they take no more than parts of the budget.

    With it, what the float network says of frames as they are.
    """
    shape, classes = float_network.input_shape, max(2, float_network.outputs)
    data = data.fitted(shape, classes=classes, threshold=0)
    some = data.first(EXPLAINED)

    def scores(images: npt.NDArray[np.floating]) -> Floats:
        return float_network.scores(images.astype(np.float32)).astype(np.float64)

    full = Margins(scores(_grey(data.images)), data.labels)

    def accuracy(frames: npt.NDArray[np.floating], doubt: float = SIGNIFICANCE) -> float:
        return _promised(full, scores(frames), doubt)

    def coding_of(levels: int, budget: float) -> InputCoding:
        given = (settings.input_threshold, settings.input_step)
        return choose_coding(levels, *given, images=some.images, accuracy=accuracy, budget=budget)

    if not settings.searches_exactly or settings.input_levels is not None or settings.input_threshold is not None:
        return [coding_of(settings.input_levels or 1, settings.accuracy_budget)], full
    budgets = [settings.accuracy_budget * part for part in _OF_THE_INPUT]

    def on_all(coding: InputCoding) -> float:
        return accuracy(coding.frames(data.images), _doubt(coding))

    found = [_enough_levels(partial(coding_of, budget=budget), on_all, full.accuracy - budget) for budget in budgets]
    return list(dict.fromkeys(found)), full


def _enough_levels(
    coding_of: Callable[[int], InputCoding], accuracy: Callable[[InputCoding], float], wanted: float
) -> InputCoding:
    """The fewest levels with which the accuracy to expect is as it is wanted; else those with which it is highest."""
    best: tuple[float, InputCoding] | None = None
    for levels in _INPUT_LEVELS:
        coding = coding_of(levels)
        found = accuracy(coding)
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
    # What rounding leaves where sums cancel is no activation. Neurons that are never active may lie below 0 as far as they like.
    of_neurons = np.abs(values).reshape(len(values), -1).max(axis=0)
    if layer.relu:
        of_neurons = of_neurons[sizes.reshape(len(values), -1).any(axis=0)]
    found = sizes[sizes > _ROUNDING * of_neurons.max(initial=0.0)]
    if not len(found):
        # Nothing fires: the layer's scale is that of what stays below zero.
        return float(np.abs(values).max()) or 1.0
    return float(np.percentile(found, _LARGE))
