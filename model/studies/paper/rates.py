"""The rate code by conversion (`model.studies.rate_coded`), after every time step."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.arrays import Images
from model.importers.float_network import FloatNetwork
from model.studies.rate_coded import RateNetwork, convert_rates, run_rates
from model.studies.synapses import NeuronStage
from model.support.dataset import Dataset

__all__ = ["Rates", "rates", "rates_of"]

_MOST_STEPS = 25
"""As many as the paper reports."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The rate code's figures after each of its time ``steps``; ``spikes_by_layer`` are those of a frame after the last one."""

    scales: list[float]
    steps: list[int]
    accuracy: list[float]
    accuracy_potential: list[float]
    spikes_per_neuron: list[float]
    accumulations_per_frame: list[float]
    input_operations_per_frame: int
    current_additions_per_step: int
    spikes_by_layer: dict[str, float]


def rates(
    network: FloatNetwork, data: Dataset, calibration: Images, threshold: int | None, done: Callable[[int], None]
) -> Rates:
    """The rate code, after each time step up to `_MOST_STEPS`."""
    return rates_of(convert_rates(network, calibration, input_threshold=threshold), data, _MOST_STEPS, done)


def rates_of(converted: RateNetwork, data: Dataset, most_steps: int, done: Callable[[int], None]) -> Rates:
    """The same of a network that is converted, up to ``most_steps``."""
    found = run_rates(converted, data.images, most_steps, done=done)
    labels = data.labels[:, np.newaxis]
    inputs = float(found.input_operations.mean())
    return Rates(
        scales=[round(scale, 4) for scale in converted.scales],
        steps=list(range(1, most_steps + 1)),
        accuracy=_rounded((found.answers == labels).mean(axis=0), 6),
        accuracy_potential=_rounded((found.answers_potential == labels).mean(axis=0), 6),
        spikes_per_neuron=_rounded(found.spikes.sum(axis=2).mean(axis=0).cumsum() / converted.neurons, 5),
        accumulations_per_frame=_rounded(inputs + found.operations.sum(axis=2).mean(axis=0).cumsum(), 0),
        input_operations_per_frame=round(inputs),
        current_additions_per_step=round(float(found.current_operations.mean())),
        spikes_by_layer=dict(
            zip(
                (stage.name for stage in converted.stages if isinstance(stage, NeuronStage)),
                _rounded(found.spikes.sum(axis=1).mean(axis=0), 1),
                strict=True,
            )
        ),
    )


def _rounded(values: npt.NDArray[np.floating], digits: int) -> list[float]:
    return [round(float(value), digits) if digits else round(float(value)) for value in values]
