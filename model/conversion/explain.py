"""Where a conversion loses accuracy, and why: from the float network to the spiking one a step at a time.

Each step changes one thing in one layer and leaves all earlier steps in place: first the weights become integers, layer
by layer, then the activations are rounded to whole thresholds, then events take the place of rounding (which changes nothing
where neurons fire deferred, and is no step there), and last the widths are those of the network's file. The accuracies form a
ladder: what is lost from step to step adds up to what the conversion loses in all.
"""

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model.conversion.coding import InputCoding
from model.conversion.projections import driven
from model.conversion.quantized_frames import run_images
from model.encode import encode
from model.engine.engine import run_fast
from model.golden import answers
from model.importers.float_network import FloatNetwork
from model.network import INPUT, Layer, MaxPool, Network, Neurons
from model.rest import pooled, rounded

__all__ = ["CAUSES", "Step", "explain", "verdict"]

_BATCH = 50
"""Frames at once: what the memory in use grows with."""

CAUSES = {
    "1-bit input": "the input has one bit per pixel",
    "input levels": "the input has few levels",
    "weight bits": "integer weights are coarse, as one scale a layer has to cover its outliers",
    "corrected biases": "biases make up for rounding on average, not on these frames",
    "threshold": "counts are whole thresholds",
    "order of events": "neurons end a spike off what rounding gives, as they follow events with hysteresis and fire once an "
    "update at most",
    "last place": "scales that are not a power of two do not fit the bits that there are: quantize with scales that are",
    "saturation": "counts or potentials reach the end of their widths, which calibration frames did not",
}
"""What a `Step` changes, by its cause."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """One step of the ladder.

    Parameters
    ----------
    cause : str
        One of `CAUSES`.
    layer : str
        The layer that it was taken in; empty where it is the whole network.
    accuracy : float
        With this and all earlier steps taken.
    lost : float
        The accuracy before, less this one; negative where the step happened to help.
    """

    cause: str
    layer: str
    accuracy: float
    lost: float


def explain(
    floats: FloatNetwork,
    network: Network,
    thresholds: dict[str, float],
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    *,
    uncorrected: Network | None = None,
    rounding: Collection[str] = (),
    done: Callable[[int], None] = lambda frames: None,
) -> tuple[Step, ...]:
    """The ladder from ``floats`` to ``network`` on some frames.

    Parameters
    ----------
    floats : FloatNetwork
        The float network, layer for layer that of ``network``.
    network : Network
        What it was converted to.
    thresholds : dict[str, float]
        ``theta_l`` of each neuron layer, in the float network's units.
    images, labels : npt.NDArray[np.uint8], npt.NDArray[np.int64]
        npt.NDArray[np.uint8], npt.NDArray[np.int64] uint8 frames ``(frames, height, width, channels)`` and their classes.
    uncorrected : Network | None
        The same without `model.conversion.correction`, where ``network`` has it: a step of its own then.
    rounding : collection of str
        The layers whose biases are half a threshold higher, which is a matter of counts and not of activations.
    done : Callable[[int], None]
        Called with the number of frames finished.
    """
    right = {("grey input", ""): 0}
    for at in range(0, len(images), _BATCH):
        batch, classes = images[at : at + _BATCH], labels[at : at + _BATCH]
        for key, scores in _ladder(floats, network, uncorrected or network, thresholds, batch, rounding):
            right[key] = right.get(key, 0) + int((answers(scores.reshape(len(batch), -1)) == classes).sum())
        done(len(batch))
    shares = [(key, count / len(images)) for key, count in right.items()]
    return tuple(
        Step(cause, layer, accuracy, round(before - accuracy, 6))
        for (_, before), ((cause, layer), accuracy) in itertools.pairwise(shares)
    )


def verdict(steps: tuple[Step, ...], *, least: float = 0.001) -> str:
    """One line on the step that loses most, if it loses at least ``least``.

    Corrected biases give back what rounding took, so that the two count as one.
    """
    given_back = sum(step.lost for step in steps if step.cause == "corrected biases")
    rounding = [step for step in steps if step.cause in ("threshold", "corrected biases")]
    if given_back and rounding:
        together = Step("threshold", "", rounding[-1].accuracy, sum(step.lost for step in rounding))
        steps = (*(step for step in steps if step not in rounding), together)
    worst = max(steps, key=lambda step: step.lost)
    if worst.lost < least:
        return f"no step loses {least:.1%} or more"
    where = f" in {worst.layer}" if worst.layer else ""
    return f"most is lost to the {worst.cause}{where} ({worst.lost:.2%}): {CAUSES[worst.cause]}"


def _ladder(
    floats: FloatNetwork,
    network: Network,
    uncorrected: Network,
    thresholds: dict[str, float],
    images: npt.NDArray[np.uint8],
    rounding: Collection[str],
) -> list[tuple[tuple[str, str], npt.NDArray[np.number]]]:
    """Of each step the scores of all frames."""
    coding = InputCoding.of(network)
    frames = coding.counts(images).astype(np.float64)
    coded = "1-bit input" if coding.levels == 1 else "input levels"
    scores: list[tuple[tuple[str, str], npt.NDArray[np.number]]] = [
        (("grey input", ""), floats.scores(images.astype(np.float32) / 255)),
        ((coded, ""), floats.scores(coding.frames(images).astype(np.float32))),
    ]
    wide, plain = (replace(net, layers=tuple(_widened(layer) for layer in net.layers)) for net in (network, uncorrected))
    by_name = {layer.name: layer for layer in floats.layers}
    neurons = [index for index, layer in enumerate(wide.layers) if isinstance(layer, Neurons)]

    def run(
        values: dict[str, Values], first: int, of: Network = plain, /, *, integers: bool, whole: bool
    ) -> dict[str, Values]:
        """Run the layers from ``first`` on, with integer weights and with whole counts or without."""
        values = dict(values)
        for layer in of.layers[first:]:
            if isinstance(layer, MaxPool):
                values[layer.name] = pooled(layer, values[layer.source])
                continue
            assert isinstance(layer, Neurons)
            of_float = by_name[layer.name]
            if integers:
                weights: Sequence[Values] = [taken.weights.astype(np.float64) for taken in layer.inputs]
                found = (driven(floats, of_float, values, weights) + layer.bias) / layer.theta
            else:
                theta = thresholds[layer.name]
                assert of_float.bias is not None
                weights = [
                    taken.weights * (_threshold_before(wide, taken.source, thresholds) / theta)
                    for taken in of_float.inputs
                    if taken.weights is not None
                ]
                found = driven(floats, of_float, values, weights) + of_float.bias / theta
            if whole:
                values[layer.name] = rounded(layer, found, deferred=of.deferred)
            else:
                values[layer.name] = _activated(layer, found - 0.5 if integers and layer.name in rounding else found)
        return values

    def last(values: dict[str, Values]) -> Values:
        return values[wide.output.name]

    for cause, later, before in (
        ("weight bits", {"integers": False, "whole": False}, {"integers": True, "whole": False}),
        ("threshold", {"integers": True, "whole": False}, {"integers": True, "whole": True}),
    ):
        values = {INPUT: frames}
        done = 0
        for index in neurons:
            # The layers up to this one as they are after the step, those after it as they were.
            upto = run(values, done, **before)
            values, done = {name: upto[name] for name in (INPUT, *(la.name for la in wide.layers[: index + 1]))}, index + 1
            scores.append(((cause, wide.layers[index].name), last(run(values, done, **later))))
    if uncorrected is not network:
        after = run({INPUT: frames}, 0, wide, integers=True, whole=True)
        scores.append((("corrected biases", ""), last(after)))
    if not network.deferred:
        traces = [run_fast(wide, encode(wide, image)) for image in images]
        values = {INPUT: frames}
        for index, layer in enumerate(wide.layers):
            values[layer.name] = np.stack([trace.layers[layer.name].count for trace in traces]).astype(np.float64)
            if index in neurons:
                scores.append((("order of events", layer.name), last(run(values, index + 1, wide, integers=True, whole=True))))
    scores.append((("saturation", ""), run_images(network, images).counts))
    return scores


def _activated(layer: Neurons, potential: Values) -> Values:
    """Activations, in thresholds."""
    return np.clip(potential, 0, layer.count_max) if layer.relu else potential


def _widened(layer: Layer) -> Layer:
    """The layer with widths at which nothing saturates in practice."""
    return replace(layer, potential_bits=24, count_bits=16) if isinstance(layer, Neurons) else layer


def _threshold_before(network: Network, source: str, thresholds: dict[str, float]) -> float:
    """What an event of a source stands for: the threshold of the neurons before, or what a spike of the input does."""
    while source != INPUT and source not in thresholds:
        source = network.layer(source).source
    return thresholds.get(source, InputCoding.of(network).value)
