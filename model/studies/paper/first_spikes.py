"""The time to first spike by conversion alone (`model.studies.first_spike`), and where its accuracy goes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.arrays import Floats, Images
from model.importers.float_network import FloatNetwork
from model.studies.first_spike import convert_first_spikes, run_first_spikes, spike_times_of_layers
from model.studies.paper.measurements import share
from model.support.dataset import Dataset

__all__ = ["FirstSpikes", "MissedLayer", "MissedLayers", "first_spikes", "missed"]

_BATCH = 64
"""Frames whose spike times are looked at together."""


@dataclass(frozen=True, kw_only=True)
class FirstSpikes:
    """The figures of the time to first spike, where the frame ends with the answer and where it does not."""

    scales: list[float]
    accuracy: float
    answer_time_mean: float
    frames_without_output_spike: int
    spikes_per_neuron: float
    accumulations_per_frame: int
    accumulations_per_frame_without_end: int
    spikes_per_neuron_without_end: float
    input_operations_per_frame: int
    input_spikes_per_frame: float


@dataclass(frozen=True, kw_only=True)
class MissedLayer:
    """Shares of active and of silent neurons that fire, and how times and activations correlate; None where there are none."""

    layer: str
    fired_of_active: float | None
    fired_of_silent: float | None
    correlation: float | None


@dataclass(frozen=True, kw_only=True)
class MissedLayers:
    """Of each layer of the time-to-first-spike network, what its neurons do against the float network's."""

    layers: tuple[MissedLayer, ...]

    @classmethod
    def read(cls, values: dict[str, Any]) -> "MissedLayers":
        """From its JSON object."""
        return cls(layers=tuple(MissedLayer(**layer) for layer in values["layers"]))


def first_spikes(
    network: FloatNetwork, data: Dataset, calibration: Images, input_spikes: bool, done: Callable[[int], None]
) -> FirstSpikes:
    """The time to first spike; the frame ends with the answer."""
    converted = convert_first_spikes(network, calibration, input_spikes=input_spikes)
    found = run_first_spikes(converted, data.images, done=done)
    inputs = float(found.input_operations.mean())
    layers = found.operations_by_answer.mean(axis=0)
    return FirstSpikes(
        scales=[round(scale, 4) for scale in converted.scales],
        accuracy=share(found.answers, data.labels),
        answer_time_mean=round(float(found.answer_times.mean()), 3),
        frames_without_output_spike=int((found.answer_times >= converted.duration).sum()),
        spikes_per_neuron=round(float(found.spikes_by_answer.sum(axis=1).mean()) / converted.neurons, 5),
        accumulations_per_frame=round(inputs + float(layers.sum())),
        accumulations_per_frame_without_end=round(inputs + float(found.operations.sum(axis=1).mean())),
        spikes_per_neuron_without_end=round(float(found.spikes.sum(axis=1).mean()) / converted.neurons, 5),
        input_operations_per_frame=round(inputs),
        input_spikes_per_frame=round(float(found.input_spikes_by_answer.mean()), 2),
    )


def missed(floats: FloatNetwork, images: Images, calibration: Images) -> MissedLayers:
    """Of each layer of the time-to-first-spike network, what its neurons do against the float network's activations."""
    converted = convert_first_spikes(floats, calibration)
    times: dict[str, list[Floats]] = {}
    for at in range(0, len(images), _BATCH):
        for name, of_batch in spike_times_of_layers(converted, images[at : at + _BATCH]).items():
            times.setdefault(name, []).append(of_batch)
    found = []
    names = [layer.name for layer in floats.layers if layer.kind != "maxpool"]
    scales = dict(zip(names, converted.scales, strict=True))
    for layer, _, shape in floats.walk():
        if layer.kind == "maxpool":
            continue
        values = floats.run(images / np.float32(255), [layer.tensor])[0] / scales[layer.name]
        # ONNX is channel-major.
        values = values.reshape(len(images), shape.channels, -1).transpose(0, 2, 1).reshape(len(images), -1)
        fired = np.concatenate(times[layer.name])
        fires, active = np.isfinite(fired), values > 0
        # Activations so small that their neurons would fire after the end are no error.
        in_time = values > 1 / converted.duration
        found.append(
            MissedLayer(
                layer=layer.name,
                fired_of_active=_mean(fires[in_time]),
                fired_of_silent=_mean(fires[~active]),
                correlation=_correlation(1 / fired[fires & active], values[fires & active]),
            )
        )
    return MissedLayers(layers=tuple(found))


def _mean(values: npt.NDArray[np.bool_]) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None


def _correlation(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float | None:
    """Pearson's; None where one of them does not vary."""
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return None
    return round(float(np.corrcoef(a, b)[0, 1]), 4)
