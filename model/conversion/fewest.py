"""The search for the fewest accumulations in networks that fire deferred, whose counts are the quantized network's.

A measurement is a few products of matrices there (`model.conversion.quantized_frames`), so that many can be had in seconds. The
accuracy rises with the number of thresholds that an activation is worth, for as long as the format has them: nothing lags.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from model.conversion.search import OUTPUT_LEVELS, Measured, thresholds_of
from model.importers.float_network import ConversionError
from model.network import MOST_COUNT_BITS

__all__ = ["Fewest", "Search", "Tried"]

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

_SAME = 0.0005
"""A frame in two thousand: about what one can tell apart."""


@dataclass(frozen=True)
class Tried:
    """A choice of levels, and what came of it.

    Parameters
    ----------
    levels : tuple[float, ...]
        Thresholds that a large activation is worth, of each layer of neurons.
    weight_bits : int
        Width of a weight.
    bias_corrected : bool
        Whether biases made up for rounding (`model.conversion.correction`).
    accuracy : float
        On the calibration data.
    accumulations : float
        Mean per frame.
    """

    levels: tuple[float, ...]
    weight_bits: int
    bias_corrected: bool
    accuracy: float
    accumulations: float


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
        What a network with such thresholds does.
    progress : callable
        Is told of every measurement.
    weight_bits, bias_corrected : int, bool
        Of the networks, to be kept with what was measured.
    """

    def __init__(
        self,
        large: Sequence[float],
        steepest: Sequence[float],
        ends: Sequence[float | None],
        measure: Callable[[Sequence[float]], Measured],
        progress: Callable[[str], None],
        *,
        weight_bits: int = 8,
        bias_corrected: bool = False,
    ) -> None:
        self._scale = (large, steepest, ends)
        self._measure, self._progress = measure, progress
        self._of = (weight_bits, bias_corrected)
        self.tried: list[Tried] = []

    def enough(self, wanted: float) -> Fewest:
        """Levels, the same in all layers, doubled until the accuracy is ``wanted``, or until more do not help.

        The output, whose spikes reach no neuron, has many; more where its counts say less than its potentials.
        """
        return self._found(*_enough(self, len(self._scale[0]) - 1, wanted))

    def lowered(self, found: Fewest, wanted: float) -> Fewest:
        """Fewer levels, again and again in the layer where that saves most for the accuracy it costs, while that is ``wanted``.

        Of the output fewer where that costs nothing.
        """
        levels, best = _lowered(self, list(found.levels), found.measured, min(wanted, found.measured.accuracy))
        return self._found(*_with_fewer_of_the_output(self, levels, best))

    def _found(self, levels: Sequence[float], measured: Measured) -> Fewest:
        return Fewest(tuple(levels), tuple(self.thresholds(levels)), measured)

    def thresholds(self, levels: Sequence[float]) -> list[float]:
        """What levels stand for."""
        return thresholds_of(levels, *self._scale)

    def measured(self, levels: Sequence[float]) -> Measured:
        """What a network with these levels does."""
        found = self._measure(self.thresholds(levels))
        self.tried.append(Tried(tuple(levels), *self._of, found.accuracy, found.accumulations))
        self._progress(
            f"levels {', '.join(f'{n:g}' for n in levels)}: accuracy {found.accuracy:.4f}, "
            f"{found.accumulations:,.0f} accumulations per frame"
        )
        return found


def _enough(search: Search, hidden: int, wanted: float) -> tuple[list[float], Measured]:
    """Levels, the same in all layers, that reach the accuracy; else those from which more do not help."""
    each, futile = _FIRST_LEVELS, 0
    levels = [each] * hidden + [OUTPUT_LEVELS]
    best = levels, _with_more_of_the_output(search, levels, wanted)
    while best[1].accuracy < wanted and hidden and each < _MOST_LEVELS and futile < _FUTILE:
        before, each = levels, min(2 * each, _MOST_LEVELS)
        levels = [each] * hidden + [levels[-1]]
        if search.thresholds(levels) == search.thresholds(before):
            break
        try:
            found = _with_more_of_the_output(search, levels, wanted)
        except ConversionError:
            # The format has no such thresholds.
            break
        futile = 0 if found.accuracy > best[1].accuracy + _SAME else futile + 1
        if found.accuracy >= wanted or not futile:
            best = levels, found
    return best


def _with_more_of_the_output(search: Search, levels: list[float], wanted: float) -> Measured:
    """What levels give, with those of the output, the last, doubled where counts say less than potentials do."""
    best = search.measured(levels)
    output = levels[-1]
    while best.accuracy < min(wanted, best.accuracy_potential) and 2 * output <= _MOST_OUTPUT_LEVELS:
        output *= 2
        found = search.measured([*levels[:-1], output])
        if found.accuracy > best.accuracy:
            best, levels[-1] = found, output
    return best


def _lowered(search: Search, levels: list[float], best: Measured, floor: float) -> tuple[list[float], Measured]:
    """Fewer levels, layer by layer, for as long as the accuracy is not below ``floor``.

    What a step of a layer was worth is taken to be about what it will be worth after other layers' steps: it is measured again
    only when its turn has come.
    """
    steps = [0] * (len(levels) - 1)
    worth = [math.inf] * len(steps)
    fresh: dict[int, tuple[list[float], Measured]] = {}
    while open_layers := [index for index, step in enumerate(steps) if step < len(_STEPS)]:
        index = max(open_layers, key=worth.__getitem__)
        if index in fresh:
            levels, best = fresh[index]
            fresh = {}
            continue
        fewer = [*levels[:index], round(levels[index] * _STEPS[steps[index]], 3), *levels[index + 1 :]]
        found = search.measured(fewer) if fewer[index] >= _LEAST_LEVELS else None
        if found is None or found.accuracy < floor or found.accumulations >= best.accumulations:
            steps[index] += 1
            continue
        lost = max(best.accuracy - found.accuracy, _SAME)
        worth[index] = math.log(best.accumulations / found.accumulations) / lost
        fresh[index] = fewer, found
    return levels, best


def _with_fewer_of_the_output(search: Search, levels: list[float], best: Measured) -> tuple[list[float], Measured]:
    """Fewer levels of the output, for as long as that costs nothing."""
    while levels[-1] / 2 >= 1:
        fewer = [*levels[:-1], levels[-1] / 2]
        found = search.measured(fewer)
        if found.accuracy < best.accuracy:
            break
        levels, best = fewer, found
    return levels, best
