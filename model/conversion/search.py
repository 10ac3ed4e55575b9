"""The choice of thresholds: the fewest operations within the accuracy budget."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from model.network import Network

__all__ = ["OUTPUT_LEVELS", "Measured", "choose", "thresholds_of"]

_MANY_LEVELS = 10.0
"""How many thresholds a large activation of a hidden layer holds at first; at most, where an update fires once at most."""

_MOST_LEVELS = float((1 << 16) - 1)
"""A count has 16 bits at most."""

_WORTH_DOUBLING = 0.0005
"""Accuracy that twice as many levels must bring."""

_LEVEL_STEP = 0.75
"""Step of the search to fewer levels."""

OUTPUT_LEVELS = 100.0
"""The same for the output layer, whose spikes reach no neuron, so that many of them are cheap."""

_OUTPUT_STEP = 0.5
"""Step of the search to fewer levels of the output layer."""

_WORTH_FEWER = 0.002
"""Accuracy that fewer levels of the output layer must bring."""


@dataclass(frozen=True)
class Measured:
    """What a network does on the calibration data.

    Parameters
    ----------
    accuracy : float
        By the output's counts.
    accuracy_potential : float
        By its potentials, which lose nothing to its threshold.
    accumulations : float
        Mean per frame.
    network : Network
        The network.
    expected : float
        The accuracy to expect on frames like these (`model.conversion.margins`).
    error : float
        Of the margins of its scores.
    room : float
        How many times as great an error would bring the accuracy that is wanted.
    first : float
        Accumulations that the input causes.
    spikes : float
        Mean per frame, the input's too.
    """

    accuracy: float
    accuracy_potential: float
    accumulations: float
    network: Network
    expected: float = 1.0
    error: float = 0.0
    room: float = 1.0
    first: float = 0.0
    spikes: float = 0.0

    def reaches(self, wanted: float, relied_on: float) -> bool:
        """Whether the accuracy is ``wanted`` here, and ``relied_on`` to expect on other frames."""
        return self.accuracy >= wanted and self.expected >= relied_on

    @property
    def cost(self) -> float:
        """Accumulations times spikes: both count, and a part less of the one is worth as much as the same part of the other."""
        return max(self.accumulations, 1.0) * max(self.spikes, 1.0)

    @property
    def price(self) -> float:
        """Accumulations, about, where the accuracy is just what is wanted: twice the error comes with half of them."""
        return self.first + (self.accumulations - self.first) / self.room if self.room else math.inf


def thresholds_of(
    levels: Sequence[float], large: Sequence[float], steepest: Sequence[Mapping[int, float]], ends: Sequence[float | None]
) -> list[float]:
    """Thresholds at which a large activation of each layer is worth so many.

    Parameters
    ----------
    levels : Sequence[float]
        How many thresholds, of each layer.
    large : Sequence[float]
        A large activation of each layer.
    steepest : Sequence[Mapping[int, float]]
        The least that a layer's threshold can be for each unit of that of a layer that it takes, by the number of that layer, and
        of the input, -1, for which a unit is 1: the largest weight has to fit into its bits.
    ends : Sequence[float | None]
        Where the activation ends; a count ends with it, so that the threshold is a whole part of the end.
    """
    found: list[float] = []
    for activation, slopes, end, wanted in zip(large, steepest, ends, levels, strict=True):
        theta = activation / wanted if end is None else min(activation / wanted, end)
        for before, slope in slopes.items():
            theta = max(theta, slope * (1.0 if before < 0 else found[before]) * (1 + 1e-12))
        if end is not None and end > theta:
            theta = end / int(end / theta)
        found.append(theta)
    return found


def choose(
    large: Sequence[float],
    steepest: Sequence[Mapping[int, float]],
    ends: Sequence[float | None],
    wanted: float,
    measure: Callable[[Sequence[float]], Measured],
    progress: Callable[[str], None],
    *,
    bursts: bool = False,
) -> tuple[list[float], Measured]:
    """Fewest operations with at least the accuracy ``wanted``, or, out of its reach, that of the most thresholds.

    From many thresholds to a large activation in every layer, again and again the step to fewer that saves the most
    operations for the accuracy it costs, while that stays high enough. (Still more thresholds do not help where a neuron fires
    once an update at most: it lags an activation that is worth many. With ``bursts`` they are doubled for as long as the accuracy
    needs them and rises.) So does the output layer where few events reach it: its counts then say less than its potentials, and
    it gets fewer thresholds to a large activation.

    ``large``, ``steepest`` and ``ends`` are as in `thresholds_of`.
    """

    output = OUTPUT_LEVELS

    def thresholds(levels: Sequence[float]) -> list[float]:
        return thresholds_of([*levels, output], large, steepest, ends)

    def measured(levels: Sequence[float]) -> Measured:
        found = measure(thresholds(levels))
        progress(
            f"levels {', '.join(f'{n:g}' for n in [*levels, output])}: accuracy {found.accuracy:.4f}, "
            f"{found.accumulations:,.0f} accumulations per frame"
        )
        return found

    def with_output(levels: Sequence[float], best: Measured) -> Measured:
        """The same with fewer levels of the output where that is worth it."""
        nonlocal output
        kept, candidates = output, [(best.accuracy, output, best)]
        if best.accuracy_potential > best.accuracy + _WORTH_FEWER:
            while (output := output * _OUTPUT_STEP) >= 1:
                found = measured(levels)
                candidates.append((found.accuracy, output, found))
        accuracy, output, found = max(candidates, key=lambda candidate: candidate[:2])
        if accuracy > best.accuracy + _WORTH_FEWER:
            return found
        output = kept
        return best

    levels = [_MANY_LEVELS] * (len(large) - 1)
    best = with_output(levels, measured(levels))
    while bursts and levels and best.accuracy < wanted and levels[0] < _MOST_LEVELS:
        doubled = [min(2 * each, _MOST_LEVELS) for each in levels]
        found = measured(doubled)
        if found.accuracy < best.accuracy + _WORTH_DOUBLING:
            break
        levels, best = doubled, found
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
    best = with_output(levels, best)
    return thresholds(levels), best
