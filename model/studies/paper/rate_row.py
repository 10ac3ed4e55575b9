"""The row of [9]: the rate code on the float network of [12]'s convolutional row, which is of the size that [9] has."""

from collections.abc import Callable
from pathlib import Path

from model.studies.first_spike_paper import read_first_spike
from model.studies.paper.rates import Rates, rates_of
from model.studies.rate_coded import RateNetwork
from model.support.dataset import Dataset

__all__ = ["MOST_STEPS", "fewest_steps", "rate_row"]

MOST_STEPS = 50
"""Among which the number of steps is chosen."""


def rate_row(path: Path, steps: int, data: Dataset, done: Callable[[int], None]) -> Rates:
    """Run a network of `model.training.paper_first_spike`, the one with ReLUs, with grey pixels as constant currents."""
    spiking = read_first_spike(path, clamped=False, waits=False).spiking
    # Its scales are those of the rate code: the same percentile of the positive activations, of training frames.
    network = RateNetwork(
        input_shape=spiking.input_shape, stages=spiking.stages, scales=spiking.scales, input_threshold=None
    )
    return rates_of(network, data, steps, done)


def fewest_steps(held_out: Rates, float_accuracy: float) -> int:
    """After which the rate code is as accurate as the float network on held-out frames; where it never is, most accurate."""
    wanted = min(float_accuracy, max(held_out.accuracy))
    return next(
        step for step, accuracy in zip(held_out.steps, held_out.accuracy, strict=True) if accuracy >= wanted
    )
