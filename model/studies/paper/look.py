"""A look into one frame: every spike and the outputs' potentials (the paper's Figure 2); and what is kept within a frame."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.arrays import Floats, Images, Ints
from model.encode import encode, spike_times
from model.engine.engine import run_fast
from model.events import Events
from model.golden import answers
from model.network import INPUT, Linear, MaxPool, Network, Neurons
from model.rest import weighted_sums
from model.support.errors import BadInputError

__all__ = ["Look", "Raster", "Unreset", "look", "unreset"]


@dataclass(frozen=True, kw_only=True)
class Raster:
    """Spikes of a layer: of each its time, its neuron's address and its sign, in order.

    Parameters
    ----------
    layer : str
        Its name; ``input`` for the pixels.
    neurons : int
        How many there are.
    time, neuron, sign : list
        Of each spike.
    """

    layer: str
    neurons: int
    time: list[float]
    neuron: list[int]
    sign: list[int]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one frame did.

    Parameters
    ----------
    image : list of list of int
        Its pixels.
    label, answer : int
        Its class, and the network's answer.
    layers : list of Raster
        The input and each layer of neurons.
    time : list of float
        When an event came to the outputs.
    biases : list of float
        Of each output the potential that it starts with, in thresholds.
    potentials : list of list of float
        Of each output its potential after each of these events, in thresholds.
    first_right : float or None
        When the answer so far, by spike count, was right for good; None where it is wrong in the end.
    last_input : float
        When the last pixel fired.
    """

    image: list[list[int]]
    label: int
    answer: int
    layers: list[Raster]
    time: list[float]
    biases: list[float]
    potentials: list[list[float]]
    first_right: float | None
    last_input: float

    @classmethod
    def read(cls, values: dict[str, Any]) -> "Look":
        """From its JSON object."""
        return cls(**values | {"layers": [Raster(**layer) for layer in values["layers"]]})


def look(network: Network, image: Images, label: int) -> Look:
    """Run a frame of one channel through a network that fires immediately, starts from its biases and ends with a linear layer.

    Raises
    ------
    BadInputError
        It is another network.
    """
    output = network.output
    if network.deferred or network.rest or not isinstance(output, Linear) or network.input_shape.channels != 1:
        raise BadInputError(
            f"network {network.name!r} must fire immediately, start from its biases, take one channel and end with a linear layer"
        )
    trace = run_fast(network, encode(network, image))
    due = spike_times(network, image)
    streams = {INPUT: trace.events} | {
        layer.name: trace.layers[layer.name].spikes for layer in network.layers if isinstance(layer, Neurons)
    }
    sizes = {INPUT: network.input_shape.size} | {layer.name: shape.size for layer, _, shape in network.walk()}
    taken = trace.layers[output.name].events
    drive = taken["sign"][:, np.newaxis] * output.weights.astype(np.int64).T[taken["address"]]
    potentials = (output.bias + drive.cumsum(axis=0)) / output.theta
    return Look(
        image=np.asarray(image).reshape(network.input_shape[:2]).tolist(),
        label=label,
        answer=trace.answer,
        layers=[
            Raster(
                layer="input" if name == INPUT else name,
                neurons=sizes[name],
                time=due[events["origin"]].round(5).tolist(),
                neuron=events["address"].tolist(),
                sign=events["sign"].tolist(),
            )
            for name, events in streams.items()
        ],
        time=due[taken["origin"]].round(5).tolist(),
        biases=(output.bias / output.theta).round(4).tolist(),
        potentials=potentials.T.round(4).tolist(),
        first_right=_right_for_good(streams[output.name], due, network.outputs, label),
        last_input=round(float(due[-1]), 5) if len(due) else 0.0,
    )


def _right_for_good(spikes: Events, due: Floats, classes: int, label: int) -> float | None:
    """From which time on the answer by spike count is ``label``."""
    counts = np.zeros((len(spikes) + 1, classes), np.int64)
    counts[np.arange(len(spikes)) + 1, spikes["address"]] = spikes["sign"]
    wrong = np.flatnonzero(answers(counts.cumsum(axis=0)) != label)
    if len(wrong) == 0:
        return 0.0
    # After the last spike that leaves the answer wrong.
    return round(float(due[spikes["origin"][wrong[-1]]]), 5) if wrong[-1] < len(spikes) else None


@dataclass(frozen=True, kw_only=True)
class Unreset:
    """Whether anything resets within a frame.

    Parameters
    ----------
    frames, neurons : int
        How many were looked at, neurons in all frames together.
    fired_often : int
        Those that fired more than once.
    different : int
        Those whose potential in the end is not their bias and the weights times the counts of their sources.
    """

    frames: int
    neurons: int
    fired_often: int
    different: int


def unreset(network: Network, images: Images) -> Unreset:
    """Hold each neuron's potential at the end of a frame against all that it was sent."""
    neurons = fired_often = different = 0
    for image in images:
        trace = run_fast(network, encode(network, image))
        counts: dict[str, Ints] = {INPUT: np.zeros(network.input_shape, np.int64)}
        np.add.at(counts[INPUT].reshape(-1), trace.events["address"], trace.events["sign"])
        for layer, shape, output in network.walk():
            found = trace.layers[layer.name]
            counts[layer.name] = found.count
            if isinstance(layer, MaxPool):
                continue
            assert isinstance(layer, Neurons)
            sums = weighted_sums(layer, layer.weights, counts[layer.source][np.newaxis].astype(np.float64), shape, output)[0]
            neurons += output.size
            fired_often += int((np.bincount(found.spikes["address"], minlength=1) > 1).sum())
            different += int((sums + layer.bias != found.potential).sum())
    return Unreset(frames=len(images), neurons=neurons, fired_often=fired_often, different=different)
