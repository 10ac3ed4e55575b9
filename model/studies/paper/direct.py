"""The paper's network without hysteresis (`model.studies.direct_quantization`), one threshold for all layers."""

from collections.abc import Callable
from dataclasses import dataclass

from model.golden import answers
from model.importers.float_network import FloatNetwork
from model.network import Neurons
from model.studies.direct_quantization import run_direct
from model.studies.one_threshold import fired_per_frame, one_threshold
from model.studies.paper.measurements import quantized_outputs, share
from model.support.dataset import Dataset

__all__ = ["Direct", "direct"]


@dataclass(frozen=True, kw_only=True)
class Direct:
    """The figures of neurons without hysteresis at one ``threshold``.

    Parameters
    ----------
    threshold : float
        Of all layers.
    accuracy_nearest : float
        Where activations are rounded to the nearest whole threshold at once, without events.
    accuracy, spikes_per_neuron, accumulations_per_frame
        Of the neurons, which count whole thresholds towards zero.
    negative_spikes : float
        Share of spikes that are negative.
    """

    threshold: float
    accuracy_nearest: float
    accuracy: float
    spikes_per_neuron: float
    accumulations_per_frame: int
    negative_spikes: float


def direct(floats: FloatNetwork, threshold: float, data: Dataset, done: Callable[[int], None]) -> Direct:
    """Run all frames."""
    network = one_threshold(floats, threshold)
    found = run_direct(network, data.images, done=done)
    neurons = [isinstance(layer, Neurons) for layer in network.layers]
    return Direct(
        threshold=threshold,
        accuracy_nearest=share(answers(quantized_outputs(network, data.images, nearest=True)), data.labels),
        accuracy=share(answers(found.counts), data.labels),
        spikes_per_neuron=round(fired_per_frame(network, found.spikes) / network.neurons, 5),
        accumulations_per_frame=round(float(found.operations.sum(axis=1).mean())),
        negative_spikes=round(float(found.negative[:, neurons].sum() / max(1, found.spikes[:, neurons].sum())), 4),
    )
