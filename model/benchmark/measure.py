"""What a spiking network does on frames: answers by count, spikes, accumulations, by layer and in all."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.conversion.choice import accuracy_of
from model.conversion.quantized import quantized_counts
from model.conversion.quantized_frames import run_images
from model.engine.engine import FrameSummaries, run_frames
from model.network import MaxPool, Network, Neurons
from model.support.dataset import Dataset
from model.support.errors import MismatchError
from model.support.frames import suited

__all__ = ["SIMULATED", "LayerMeasured", "Measured", "measure"]

SIMULATED = 500
"""Frames of which every event is simulated."""


@dataclass(frozen=True, kw_only=True)
class LayerMeasured:
    """A layer in a mean frame.

    Parameters
    ----------
    layer, kind, shape : str
        Which one.
    spikes, accumulations : float
        Spikes that it fires (of a max-pool: passes on), and accumulations that the events it takes cause in it.
    greatest_count : int
        The most spikes of one of its neurons in any frame.
    """

    layer: str
    kind: str
    shape: str
    spikes: float
    accumulations: float
    greatest_count: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a spiking network does, mean of all frames.

    Parameters
    ----------
    frames : int
        How many.
    accuracy : float
        By spike count, 0 to 1.
    accuracy_quantized : float
        Of the quantized network, which knows no events.
    input_events, hidden_spikes, output_spikes : float
        Spikes per frame of the pixels, of the hidden neurons, and of the outputs.
    sent : float
        Events per frame that go from a layer to the next, the pixels' included; of a layer before a max-pool what the pool
        passes on.
    neurons : int
        Neurons, hidden and outputs.
    accumulations : float
        Per frame.
    saturated_events : int
        Events that saturated something, in all frames.
    layers : tuple of LayerMeasured
        Each layer.
    """

    frames: int
    accuracy: float
    accuracy_quantized: float
    input_events: float
    hidden_spikes: float
    output_spikes: float
    sent: float
    neurons: int
    accumulations: float
    saturated_events: int
    layers: tuple[LayerMeasured, ...]

    @property
    def spikes(self) -> float:
        """Spikes per frame of pixels, hidden neurons and outputs together."""
        return self.input_events + self.hidden_spikes + self.output_spikes

    @property
    def spikes_per_neuron(self) -> float:
        """Spikes per neuron per frame, the pixels' apart."""
        return (self.hidden_spikes + self.output_spikes) / self.neurons


def measure(network: Network, data: Dataset) -> Measured:
    """Run ``network`` on all frames.

    One that fires deferred counts as the quantized network does: there all frames are matrix products, and the first `SIMULATED`
    are simulated event by event too.

    Parameters
    ----------
    network, data : Network, Dataset
        What to run, on what.

    Raises
    ------
    MismatchError
        The simulated frames differ in a count, a spike or an accumulation.
    """
    data = suited(network, data)
    found = run_images(network, data.images)
    counts = found.counts
    if network.deferred:
        _check(network, data.images[:SIMULATED], found)
    else:
        counts = quantized_counts(network, data.images)
    spikes, operations = found.spikes.mean(axis=0), found.operations.mean(axis=0)
    fired = {layer.name: float(mean) for layer, mean in zip(network.layers, spikes, strict=True)}
    pooled = {layer.source for layer in network.layers if isinstance(layer, MaxPool)}
    neurons = [layer.name for layer in network.layers if isinstance(layer, Neurons)]
    hidden = [name for name in neurons if name != network.output.name]
    inputs = float(found.input_events.mean())
    return Measured(
        frames=len(data),
        accuracy=accuracy_of(found.counts, data.labels),
        accuracy_quantized=accuracy_of(counts, data.labels),
        input_events=round(inputs, 2),
        hidden_spikes=round(sum(fired[name] for name in hidden), 2),
        output_spikes=round(fired[network.output.name], 2),
        sent=round(inputs + sum(mean for name, mean in fired.items() if name not in {*pooled, network.output.name}), 2),
        neurons=network.neurons,
        accumulations=round(float(operations.sum()), 1),
        saturated_events=int(found.saturated_events.sum()),
        layers=tuple(
            LayerMeasured(
                layer=layer.name,
                kind=layer.KIND,
                shape=str(shape),
                spikes=round(float(spikes[index]), 2),
                accumulations=round(float(operations[index]), 1),
                greatest_count=int(np.abs(found.greatest_count[index])),
            )
            for index, (layer, _, shape) in enumerate(network.walk())
        ),
    )


def _check(network: Network, images: npt.NDArray[np.uint8], found: FrameSummaries) -> None:
    """Simulate frames event by event, and hold what they do against what was found."""
    simulated = run_frames(network, images)
    for name in ("input_events", "counts", "spikes", "operations"):
        if (getattr(simulated, name) != getattr(found, name)[: len(images)]).any():
            raise MismatchError(f"{network.name}: {name} must be the quantized network's; report this network")
