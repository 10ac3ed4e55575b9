"""The extreme case of a coarse quantization: hidden neurons that fire once or not (the paper's footnote 2)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from model.arrays import Images
from model.conversion.quantize import Settings, quantize
from model.golden import answers
from model.importers.float_network import FloatNetwork
from model.network import Network, Neurons
from model.studies.one_threshold import INPUT_THRESHOLD
from model.studies.paper.measurements import Measurements, quantized_outputs, share

__all__ = ["Binary", "binary", "binary_network", "spike_worths"]

_SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Of a large activation: thresholds that are tried."""


@dataclass(frozen=True, kw_only=True)
class Binary:
    """The figures of a network whose hidden neurons fire once or not.

    Parameters
    ----------
    share_of_large : float
        Each hidden layer's threshold, as a share of a large activation of it; chosen on the calibration frames.
    worths : list of float
        What a spike of each hidden layer stands for, in its thresholds.
    accuracy, spikes_per_neuron, accumulations_per_frame
        What came of it.
    accuracy_of_threshold : float
        Where a spike stands for its threshold instead; the threshold chosen for that.
    accuracy_of_one_answer : float
        Of a network that always gives the same answer, the most frequent class.
    """

    share_of_large: float
    worths: list[float]
    accuracy: float
    spikes_per_neuron: float
    accumulations_per_frame: int
    accuracy_of_threshold: float
    accuracy_of_one_answer: float


def binary(made: Measurements, large_activations: Mapping[str, float], done: Callable[[int], None]) -> Binary:
    """Measure the network trained as the paper's; all choices are made on the calibration frames."""
    floats, calibration, labels = made.sgd, made.calibration, made.data.labels
    hidden = list(large_activations.values())[:-1]

    def network(of_large: float, fitted: bool) -> tuple[Network, list[float]]:
        thresholds = [of_large * value for value in hidden]
        worths = spike_worths(floats, thresholds, calibration.images) if fitted else thresholds
        return binary_network(floats, thresholds, worths), [worth / at for worth, at in zip(worths, thresholds, strict=True)]

    def best(fitted: bool) -> float:
        def right(of_large: float) -> float:
            counts = quantized_outputs(network(of_large, fitted)[0], calibration.images)
            return share(answers(counts), calibration.labels)

        return max(_SHARES, key=right)

    of_large = best(True)
    chosen, worths = network(of_large, True)
    found = made.sigma_delta(chosen, done)
    plain = quantized_outputs(network(best(False), False)[0], made.data.images)
    return Binary(
        share_of_large=of_large,
        worths=[round(worth, 3) for worth in worths],
        accuracy=found.accuracy,
        spikes_per_neuron=found.spikes_per_neuron,
        accumulations_per_frame=found.accumulations_per_frame,
        accuracy_of_threshold=share(answers(plain), labels),
        accuracy_of_one_answer=float(np.bincount(labels).max() / len(labels)),
    )


def spike_worths(floats: FloatNetwork, thresholds: Sequence[float], images: Images) -> list[float]:
    """Of each hidden layer the mean of the activations at its threshold or above, as the next layer is given them.

    Behind a max-pool these are the pooled ones. A layer without any such activation has its threshold.
    """
    pixels = (images > INPUT_THRESHOLD).astype(np.float32)
    found: list[float] = []
    for layer in floats.layers[:-1]:
        if layer.kind != "maxpool":
            at = thresholds[len(found)]
            found.append(at)
        values = floats.run(pixels, [layer.tensor])[0]
        above = values[values >= at]
        found[-1] = float(above.mean()) if len(above) else at
    return found


def binary_network(floats: FloatNetwork, thresholds: Sequence[float], worths: Sequence[float]) -> Network:
    """Hidden neurons compare when the frame ends, and fire once or not; the output counts thresholds of 1.0.

    Parameters
    ----------
    floats : FloatNetwork
        A chain.
    thresholds, worths : Sequence[float]
        Of each hidden layer of neurons, and what a spike of it stands for: with their quotient the next layer's weights are
        multiplied.
    """
    factors = iter([1.0, *(worth / at for worth, at in zip(worths, thresholds, strict=True))])
    layers = tuple(
        layer if layer.weights is None else replace(layer, weights=layer.weights * next(factors)) for layer in floats.layers
    )
    settings = Settings(firing="deferred", rest=True, rounding=False, input_threshold=INPUT_THRESHOLD)
    made = quantize(replace(floats, layers=layers), [*thresholds, 1.0], settings, name="binary")
    once = tuple(
        replace(layer, count_max=1) if isinstance(layer, Neurons) and layer is not made.output else layer
        for layer in made.layers
    )
    return replace(made, layers=once)
