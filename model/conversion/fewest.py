"""The search for the fewest accumulations and spikes in networks that fire deferred, whose counts are the quantized network's.

A measurement is a few products of matrices there (`model.conversion.quantized_frames`), so that many can be had in seconds. The
accuracy rises with the number of thresholds that an activation is worth, for as long as the format has them: nothing lags.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from model.conversion.search import OUTPUT_LEVELS, Measured, thresholds_of
from model.importers.float_network import ConversionError
from model.network import MOST_COUNT_BITS, Network

__all__ = ["SAME", "Fewest", "Search", "Tried"]

_FIRST_LEVELS = 1.0

_MOST_LEVELS = float((1 << MOST_COUNT_BITS) - 1)
"""What a count can hold."""

_FUTILE = 3
"""Doublings without a better accuracy after which no more are tried."""

_LEAST_LEVELS = 0.5
"""With fewer a large activation rounds to none."""

_STEPS = (0.6, 0.8, 0.9)
"""Steps to fewer levels of a layer, each where that before it costs too much."""

_MOST_OUTPUT_LEVELS = 1600.0

SAME = 0.0005
"""A frame in two thousand: about what one can tell apart."""

_NOTHING = 0.0005
"""Square of an error of margins that is as good as none: they are a fifth where the accuracy suffers."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A choice of levels, and what came of it.

    Parameters
    ----------
    levels : tuple[float, ...]
        Thresholds that a large activation is worth, of each layer of neurons.
    input_levels : int
        How often a pixel fires at most.
    weight_bits : int
        Width of a weight.
    bias_corrected : bool
        Whether biases made up for rounding (`model.conversion.correction`).
    frames : int
        Calibration frames that it was measured on.
    accuracy, expected : float
        On these frames, and to expect of others like them (`model.conversion.margins`).
    accumulations, spikes : float
        Mean per frame; the input's spikes too.
    """

    levels: tuple[float, ...]
    input_levels: int
    weight_bits: int
    bias_corrected: bool
    frames: int
    accuracy: float
    expected: float
    accumulations: float
    spikes: float

    def __str__(self) -> str:
        """What is read while it is searched."""
        return (
            f"levels {', '.join(f'{n:g}' for n in self.levels)}: accuracy {self.accuracy:.4f}, {self.expected:.4f} to expect, "
            f"{self.accumulations:,.0f} accumulations and {self.spikes:,.0f} spikes per frame"
        )


@dataclass(frozen=True)
class Fewest:
    """What the search found.

    Parameters
    ----------
    levels : tuple[float, ...]
        Of each layer of neurons, the output's last.
    thresholds : tuple[float, ...]
        What they stand for.
    measured : Measured
        The network.
    """

    levels: tuple[float, ...]
    thresholds: tuple[float, ...]
    measured: Measured


class Search:
    """Levels become thresholds, thresholds a network, and all that is measured is told and kept.

    Parameters
    ----------
    large, steepest, ends : sequence
        Of each layer of neurons, as in `model.conversion.search.thresholds_of`.
    measure : callable
        What a network with such thresholds does, on some frames.
    progress : callable
        Is told of every measurement.
    on_all : callable or None
        What a network does on all frames; None where some are all.
    frames : tuple of int
        How many are some, and how many are all.
    input_levels, weight_bits, bias_corrected : int, int, bool
        Of the networks, to be kept with what was measured.
    tried : list of Tried or None
        Where it is kept, with what other searches measured.
    """

    def __init__(
        self,
        large: Sequence[float],
        steepest: Sequence[Mapping[int, float]],
        ends: Sequence[float | None],
        measure: Callable[[Sequence[float]], Measured],
        progress: Callable[[str], None],
        *,
        on_all: Callable[[Network], Measured] | None = None,
        frames: tuple[int, int] = (1, 1),
        input_levels: int = 1,
        weight_bits: int = 8,
        bias_corrected: bool = False,
        tried: list[Tried] | None = None,
    ) -> None:
        self._scale = (large, steepest, ends)
        self._measure, self._on_all, self._progress = measure, on_all, progress
        self._frames, self._of = frames, (input_levels, weight_bits, bias_corrected)
        self.tried: list[Tried] = [] if tried is None else tried

    def enough(self, wanted: float, relied_on: float = 0.0) -> Fewest:
        """Levels, the same in all layers, doubled until the accuracy is ``wanted``, or until more do not help.

        On all frames it is to be ``wanted``, and what is to be expected ``relied_on``.

        The output, whose spikes reach no neuron, has many; more where its counts say less than its potentials.
        """
        return _enough(self, len(self._scale[0]) - 1, wanted, relied_on)

    def doubled(self, found: Fewest) -> Fewest:
        """Twice as many levels in all hidden layers, where that gives more accuracy."""
        try:
            more = self.at([*(min(2 * each, _MOST_LEVELS) for each in found.levels[:-1]), found.levels[-1]])
        except ConversionError:
            return found
        return max(found, more, key=lambda each: each.measured.expected)

    def lowered(self, found: Fewest, relied_on: float) -> list[Fewest]:
        """Fewer levels, again and again in the layer where that saves most for the error it brings: every step, ``found`` first.

        The accuracy to expect stays what is ``relied_on``.
        """
        # From more levels than the format has thresholds for, a step to fewer would change nothing.
        found = replace(found, levels=self._effective(found))
        return _lowered(self, found, min(relied_on, found.measured.expected))

    def _effective(self, found: Fewest) -> tuple[float, ...]:
        """The levels of thresholds, which are no less than the widest weight allows; in thousandths, upwards."""
        of_thresholds = (large / theta for large, theta in zip(self._scale[0], found.thresholds, strict=True))
        return tuple(
            min(level, math.ceil(1000 * each) / 1000) for level, each in zip(found.levels, of_thresholds, strict=True)
        )

    def on_all(self, found: Fewest) -> Fewest:
        """The same, measured on all frames."""
        if self._on_all is None:
            return found
        return replace(found, measured=self._kept(found.levels, self._on_all(found.measured.network), self._frames[1]))

    def at(self, levels: Sequence[float]) -> Fewest:
        """What a network with these levels does, on some frames."""
        thresholds = self.thresholds(levels)
        return Fewest(tuple(levels), tuple(thresholds), self._kept(levels, self._measure(thresholds), self._frames[0]))

    def thresholds(self, levels: Sequence[float]) -> list[float]:
        """What levels stand for."""
        return thresholds_of(levels, *self._scale)

    def _kept(self, levels: Sequence[float], found: Measured, frames: int) -> Measured:
        """What was measured is kept and told."""
        input_levels, weight_bits, bias_corrected = self._of
        tried = Tried(
            levels=tuple(levels),
            input_levels=input_levels,
            weight_bits=weight_bits,
            bias_corrected=bias_corrected,
            frames=frames,
            accuracy=found.accuracy,
            expected=found.expected,
            accumulations=found.accumulations,
            spikes=found.spikes,
        )
        self.tried.append(tried)
        self._progress(str(tried))
        return found


def _enough(search: Search, hidden: int, wanted: float, relied_on: float) -> Fewest:
    """Levels, the same in all layers, that reach the accuracy; else those from which more do not help."""
    best, futile = None, 0
    levels = (*[_FIRST_LEVELS] * hidden, OUTPUT_LEVELS)
    while True:
        try:
            found = _with_more_of_the_output(search, levels, wanted)
        except ConversionError:
            if best is None:
                raise
            # The format has no such thresholds.
            return best
        if found.measured.expected >= relied_on and search.on_all(found).measured.reaches(wanted, relied_on):
            return found
        if best is None or found.measured.expected > best.measured.expected + SAME:
            best, futile = found, 0
        else:
            futile += 1
        before, levels = levels, (*[min(2 * each, _MOST_LEVELS) for each in levels[:-1]], found.levels[-1])
        if futile == _FUTILE or search.thresholds(levels)[:-1] == search.thresholds(before)[:-1]:
            return best


def _with_more_of_the_output(search: Search, levels: Sequence[float], wanted: float) -> Fewest:
    """What levels give, with those of the output, the last, doubled where counts say less than potentials do."""
    best = search.at(levels)
    output = best.levels[-1]
    while best.measured.accuracy < min(wanted, best.measured.accuracy_potential) and 2 * output <= _MOST_OUTPUT_LEVELS:
        output *= 2
        found = search.at([*levels[:-1], output])
        if found.measured.accuracy > best.measured.accuracy:
            best = found
    return best


def _lowered(search: Search, best: Fewest, floor: float) -> list[Fewest]:
    """The steps to fewer levels, layer by layer, for as long as the accuracy to expect is not below ``floor``.

    What a step of a layer was worth is taken to be about what it will be worth after other layers' steps: it is measured again
    only when its turn has come.
    """
    path = [best]
    steps = [0] * len(best.levels)
    worth = [math.inf] * len(steps)
    fresh: dict[int, Fewest] = {}
    while open_layers := [index for index, step in enumerate(steps) if step < len(_STEPS)]:
        index = max(open_layers, key=worth.__getitem__)
        if index in fresh:
            best, fresh = fresh[index], {}
            path.append(best)
            continue
        fewer = round(best.levels[index] * _STEPS[steps[index]], 3)
        least = _LEAST_LEVELS if index < len(steps) - 1 else 1
        found = search.at([*best.levels[:index], fewer, *best.levels[index + 1 :]]) if fewer >= least else None
        if found is None or found.measured.expected < floor or found.measured.cost >= best.measured.cost:
            steps[index] += 1
            continue
        # Squares of errors add up, layer by layer.
        brought = max(found.measured.error**2 - best.measured.error**2, _NOTHING)
        worth[index] = math.log(best.measured.cost / found.measured.cost) / brought
        fresh[index] = found
    return path
