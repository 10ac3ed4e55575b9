"""The other methods of the paper's Table I, each measured by its own study on the network that was trained for it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import model
from model.studies import balanced_rates, event_classifier, first_spike_paper, stbp, temporal_coding
from model.studies.paper_results import Ours
from model.support.dataset import Dataset

__all__ = ["PEERS", "Peer"]

Done = Callable[[int], None]

_ZOO = Path(model.__path__[0]) / "zoo" / "paper"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A method.

    Parameters
    ----------
    key : str
        Of its row (`model.studies.paper_published.TABLE_ONE`).
    source : str
        The study that measures it.
    network : str
        Name of the network that was trained for it.
    measured : callable
        Our figures, given that name, a data set, and what to call with the number of frames finished.
    """

    key: str
    source: str
    network: str
    measured: Callable[[str, Dataset, Done], Ours]

    @property
    def file(self) -> Path:
        """The network's."""
        return _ZOO / f"{self.network}.npz"


def _first_spike(name: str, data: Dataset, done: Done) -> Ours:
    """[12], with the remedy for late inhibition that is best on held-out training frames; pixels are currents."""
    [variant] = [row for row in first_spike_paper.TABLE_ROWS if row.network == name]
    found = first_spike_paper.measure(variant.read(_ZOO), data, done)
    return Ours(
        network=f"{name}.npz",
        setting=variant.remedy,
        accuracy_ann=found.accuracy_ann,
        accuracy_snn=found.accuracy,
        neurons=found.neurons,
        synapses=found.synapses,
        spikes_per_neuron=found.spikes_per_neuron,
        accumulations_per_frame=found.accumulations_per_frame,
    )


def _temporal(name: str, data: Dataset, done: Done) -> Ours:
    """[14], [22]: trained as they spike, so that there is no float network."""
    found = temporal_coding.measure(temporal_coding.read_temporal(_ZOO / f"{name}.npz"), data, done)
    return Ours(
        network=f"{name}.npz",
        accuracy_snn=found.accuracy,
        neurons=found.neurons,
        synapses=found.synapses,
        spikes_per_neuron=found.spikes_per_neuron,
        accumulations_per_frame=found.accumulations_per_frame,
    )


def _balanced(name: str, data: Dataset, done: Done) -> Ours:
    """[23]: until neurons have fired as often as the published ones."""
    found = balanced_rates.measure_balanced(balanced_rates.BalancedNetwork.load(_ZOO / f"{name}.npz"), data, done)
    at = found.steps_published - 1
    return Ours(
        network=f"{name}.npz",
        setting=f"{found.steps_published:,} steps",
        accuracy_ann=found.accuracy_float,
        accuracy_snn=found.accuracy[at],
        neurons=found.neurons,
        synapses=found.synapses,
        spikes_per_neuron=found.spikes_per_neuron[at],
        accumulations_per_frame=found.accumulations_per_frame[at],
    )


def _event_classifier(name: str, data: Dataset, done: Done) -> Ours:
    """[24]: its float network takes histograms of spikes."""
    found = event_classifier.measure_classifier(event_classifier.EventClassifier.load(_ZOO / f"{name}.npz"), data, done)
    return Ours(
        network=f"{name}.npz",
        setting=f"{found.steps:,} steps",
        accuracy_ann=found.accuracy_float,
        accuracy_snn=found.accuracy[-1],
        neurons=found.neurons,
        synapses=found.synapses,
        spikes_per_neuron=found.spikes_per_neuron[-1],
        accumulations_per_frame=found.accumulations_per_frame[-1],
    )


def _stbp(name: str, data: Dataset, done: Done) -> Ours:
    """[25]: trained as it spikes, so that there is no float network."""
    found = stbp.measure(stbp.read_stbp(_ZOO / f"{name}.npz"), data, done)
    return Ours(
        network=f"{name}.npz",
        setting=f"{found.steps} steps",
        accuracy_snn=found.accuracy,
        neurons=found.neurons,
        synapses=found.synapses,
        spikes_per_neuron=found.spikes_per_neuron,
        accumulations_per_frame=found.accumulations_per_frame,
    )


_BUILT = (
    ("[12] conv", "first_spike_paper", "first-spike-convolutional", _first_spike),
    ("[12] fc", "first_spike_paper", "first-spike-two-layer", _first_spike),
    ("[22]", "temporal_coding", "temporal-600", _temporal),
    ("[23]", "balanced_rates", "balanced-rates", _balanced),
    ("[24]", "event_classifier", "event-classifier", _event_classifier),
    ("[25]", "stbp", "stbp", _stbp),
    ("[14]", "temporal_coding", "temporal-800", _temporal),
)

PEERS = tuple(
    Peer(key=key, source=f"model.studies.{source}", network=name, measured=measured) for key, source, name, measured in _BUILT
)
"""Those that were built."""
