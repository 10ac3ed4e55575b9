"""What would give more accuracy: options that are tried on the calibration frames before they are advised.

So an advice is true: who follows it gets the accuracy that it says, on the same frames. What does not help is not said.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from model.conversion.choice import Settled, settle
from model.conversion.explain import Step
from model.conversion.quantize import Settings
from model.importers.float_network import ConversionError, FloatNetwork
from model.network import MOST_WEIGHT_BITS
from model.support.datasets import Dataset

__all__ = ["Advice", "advise"]

_WORTH_SAYING = 0.002
"""Accuracy that has to be lost for there to be advice, and that it brings."""

_MORE_WEIGHT_BITS = 4
_MORE_INPUT_LEVELS = 4
_MOST_INPUT_LEVELS = 255


@dataclass(frozen=True)
class Advice:
    """Options of `model.convert`, and what comes of them.

    Parameters
    ----------
    options : str
        To be given in addition; an option that was given already has this value in place of its own.
    accuracy : float
        Of the spiking network, on the calibration frames.
    accumulations : float or None
        Mean per frame; None where that was not measured.
    """

    options: str
    accuracy: float
    accumulations: float | None = None

    def __str__(self) -> str:
        if self.accumulations is None:
            return f"{self.options} gives at least {self.accuracy:.2%}"
        return f"{self.options} gives {self.accuracy:.2%} at {self.accumulations:,.0f} accumulations per frame"


def advise(
    float_network: FloatNetwork, calibration: Dataset, settings: Settings, settled: Settled, steps: tuple[Step, ...]
) -> tuple[Advice, ...]:
    """Options that give more accuracy, most first.

    Parameters
    ----------
    float_network : FloatNetwork
        What is converted, in the form in which it is.
    calibration : Dataset
        The frames, as they come.
    settings : Settings
        As they were given.
    settled : Settled
        What came of them.
    steps : tuple of Step
        Where the accuracy went.
    """
    now = settled.measured.accuracy
    if max(settled.accuracy_float, settled.accuracy_coded) - now < _WORTH_SAYING:
        return ()
    met = settled.wanted is not None and now >= settled.wanted
    smaller = _smaller_budget(settings, settled) if settings.searches_exactly and met else None
    helpful = [] if smaller is None else [smaller]
    candidates = [] if met else _candidates(settings, settled, steps)
    for options, other in (*candidates, *_with_more_of_the_input(settings, settled, steps)):
        if any(advice.options.split()[0] == options.split()[0] for advice in helpful):
            # Less of the same helps already.
            continue
        try:
            measured = settle(float_network, calibration, other).measured
        except ConversionError:
            continue
        if measured.accuracy >= now + _WORTH_SAYING:
            helpful.append(Advice(options, measured.accuracy, measured.accumulations))
    return tuple(sorted(helpful, key=lambda advice: -advice.accuracy))


def _candidates(settings: Settings, settled: Settled, steps: tuple[Step, ...]) -> Iterator[tuple[str, Settings]]:
    """Options that may help, of those that are tried in seconds: where a search simulates, only the one that ends that."""
    if settings.threshold is not None:
        yield f"--threshold {settings.threshold / 2:g}", replace(settings, threshold=settings.threshold / 2)
    elif not settings.deferred:
        without = " without --burst" if settings.burst != 1 else ""
        yield f"--firing deferred{without}", replace(settings, firing="deferred", burst=1)
    for levels in () if settings.levels is None else (2 * settings.levels, 4 * settings.levels):
        yield f"--levels {levels:g}", replace(settings, levels=levels)
    if settings.deferred and settings.rounding not in (None, True):
        yield f"--rounding{' without --rounding-layers' if settings.rounding else ''}", replace(settings, rounding=True)
    bits = settled.job.settings.bits
    if not _in_seconds(settings) or _lost(steps, "weight bits") < _WORTH_SAYING:
        return
    if bits < MOST_WEIGHT_BITS:
        more = min(bits + _MORE_WEIGHT_BITS, MOST_WEIGHT_BITS)
        yield f"--weight-bits {more}", replace(settings, weight_bits=more)
    if settings.threshold is None and not settings.channel_thresholds:
        yield "--thresholds channel", replace(settings, channel_thresholds=True)


def _with_more_of_the_input(settings: Settings, settled: Settled, steps: tuple[Step, ...]) -> Iterator[tuple[str, Settings]]:
    """More levels of the input, which no budget is about where they are given."""
    levels = settled.job.settings.coding.levels
    lost = _lost(steps, "1-bit input") + _lost(steps, "input levels")
    if settings.threshold is None and _in_seconds(settings) and lost >= _WORTH_SAYING and levels < _MOST_INPUT_LEVELS:
        more = min(levels * _MORE_INPUT_LEVELS, _MOST_INPUT_LEVELS)
        yield f"--input-levels {more}", replace(settings, input_levels=more)


def _in_seconds(settings: Settings) -> bool:
    """Whether these settings, with a few others changed, are tried in seconds."""
    return settings.searches_exactly or settings.threshold is not None or settings.levels is not None


def _lost(steps: tuple[Step, ...], cause: str) -> float:
    return sum(max(step.lost, 0.0) for step in steps if step.cause == cause)


def _smaller_budget(settings: Settings, settled: Settled) -> Advice | None:
    """A budget under which the search stops at more levels, where it has seen that they give more accuracy.

    A search under that budget comes by the same levels, the same in all layers, and stops at them at the latest.
    """
    assert settled.wanted is not None
    coding = settled.job.settings.coding
    if coding.levels > 1 and settings.input_levels is None:
        # The levels of the input would be others.
        return None
    reference, now = settled.wanted + settings.accuracy_budget, settled.measured.accuracy
    seen = [
        min(tried.accuracy, tried.expected)
        for tried in settled.tried
        if len(set(tried.levels[:-1])) <= 1 and tried.frames == len(settled.job.data)
    ]
    most = max(seen, default=0.0)
    if most < now + _WORTH_SAYING:
        return None
    budget = max(0.0, math.ceil((reference - most) * 1e4) / 1e4)
    if reference - budget < now + _WORTH_SAYING / 2:
        return None
    return Advice(f"--accuracy-budget {budget:g}", reference - budget)
