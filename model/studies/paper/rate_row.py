"""The row of [9]: the rate code on the float network of [12]'s convolutional row, which is of the size that [9] has."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.golden import answers
from model.studies.first_spike_paper import float_scores, read_first_spike
from model.studies.paper.measurements import share
from model.studies.paper.rates import Rates, rates_of
from model.studies.rate_coded import RateNetwork
from model.support.dataset import Dataset

__all__ = ["MOST_STEPS", "RateRow", "fewest_steps", "rate_row"]

MOST_STEPS = 50
"""Among which the number of steps is chosen."""


@dataclass(frozen=True, kw_only=True)
class RateRow:
    """The accuracy of the float network, and the rate code after each time step."""

    accuracy_ann: float
    rates: Rates

    @classmethod
    def read(cls, values: dict[str, Any]) -> "RateRow":
        """From its JSON object."""
        return cls(accuracy_ann=values["accuracy_ann"], rates=Rates(**values["rates"]))


def rate_row(path: Path, steps: int, data: Dataset, done: Callable[[int], None]) -> RateRow:
    """Run a network of `model.training.paper_first_spike`, the one with ReLUs, with grey pixels as constant currents."""
    trained = read_first_spike(path, clamped=False, waits=False)
    spiking = trained.spiking
    # Its scales are those of the rate code: the same percentile of the positive activations, of training frames.
    network = RateNetwork(
        input_shape=spiking.input_shape, stages=spiking.stages, scales=spiking.scales, input_threshold=None
    )
    return RateRow(
        accuracy_ann=share(answers(float_scores(trained, data.images)), data.labels),
        rates=rates_of(network, data, steps, done),
    )


def fewest_steps(held_out: RateRow) -> int:
    """After which the rate code is as accurate as the float network on held-out frames; where it never is, most accurate."""
    rates = held_out.rates
    wanted = min(held_out.accuracy_ann, max(rates.accuracy))
    return next(step for step, accuracy in zip(rates.steps, rates.accuracy, strict=True) if accuracy >= wanted)
