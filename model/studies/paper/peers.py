"""The other methods of the paper's Table I, each measured by its own study on the network that was trained for it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import model
from model.studies import balanced_rates, event_classifier, stbp, temporal_coding
from model.studies.paper.results import Ours
from model.support.dataset import Dataset

__all__ = ["PAPER_ZOO", "PEERS", "Peer"]

Done = Callable[[int], None]

PAPER_ZOO = Path(model.__path__[0]) / "zoo" / "paper"
"""Folder of the networks of Table I."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A method.

    Parameters
    ----------
    key : str
        Of its row (`model.studies.paper.published.TABLE_ONE`).
    source : str
        The study that measures it.
    network : str
        Name of the network that was trained for it.
    measured : callable
        Our figures, given that name, a data set, and what to call with the number of frames finished.
    on_training_frames : bool
        Whether to measure it on training frames too: what is wrong there, training did not learn.
    """

    key: str
    source: str
    network: str
    measured: Callable[[str, Dataset, Done], Ours]
    on_training_frames: bool

    @property
    def file(self) -> Path:
        """The network's."""
        return PAPER_ZOO / f"{self.network}.npz"

    @property
    def adapter(self) -> str:
        """The source of what makes a row of its measurement."""
        return inspect.getsource(self.measured) + inspect.getsource(_ours)


def _temporal(name: str, data: Dataset, done: Done) -> Ours:
    """[14], [22]: trained as they spike, so that there is no float network."""
    found = temporal_coding.measure(temporal_coding.read_temporal(PAPER_ZOO / f"{name}.npz"), data, done)
    return replace(_ours(name, found), spikes_per_neuron_whole=found.spikes_per_neuron_without_end)


def _balanced(name: str, data: Dataset, done: Done) -> Ours:
    """[23]: until neurons have fired as often as the published ones."""
    found = balanced_rates.measure_balanced(balanced_rates.BalancedNetwork.load(PAPER_ZOO / f"{name}.npz"), data, done)
    setting = f"{found.steps_published:,} steps"
    return _ours(name, found, setting=setting, accuracy_ann=found.accuracy_float, step=found.steps_published)


def _event_classifier(name: str, data: Dataset, done: Done) -> Ours:
    """[24]: its float network takes histograms of spikes."""
    found = event_classifier.measure_classifier(event_classifier.EventClassifier.load(PAPER_ZOO / f"{name}.npz"), data, done)
    ours = _ours(name, found, setting=f"{found.steps:,} steps", accuracy_ann=found.accuracy_float, step=found.steps)
    return replace(ours, accuracy_counted=found.accuracy_counted)


def _stbp(name: str, data: Dataset, done: Done) -> Ours:
    """[25]: trained as it spikes, so that there is no float network."""
    found = stbp.measure(stbp.read_stbp(PAPER_ZOO / f"{name}.npz"), data, done)
    return _ours(name, found, setting=f"{found.steps} steps")


def _ours(name: str, found: Any, *, setting: str = "", accuracy_ann: float | None = None, step: int | None = None) -> Ours:
    """The figures that all methods have; after ``step`` where they have them of every time step."""

    def figure(values: Any) -> float:
        return float(values if step is None else values[step - 1])

    return Ours(
        network=f"{name}.npz",
        setting=setting,
        accuracy_ann=accuracy_ann,
        accuracy_snn=figure(found.accuracy),
        neurons=found.neurons,
        synapses=found.synapses,
        spikes_per_neuron=figure(found.spikes_per_neuron),
        accumulations_per_frame=figure(found.accumulations_per_frame),
    )


_BUILT = (
    ("[22]", "temporal_coding", "temporal-600", _temporal, True),
    ("[23]", "balanced_rates", "balanced-rates", _balanced, False),
    ("[24]", "event_classifier", "event-classifier", _event_classifier, True),
    ("[25]", "stbp", "stbp", _stbp, True),
    ("[14]", "temporal_coding", "temporal-800", _temporal, True),
)

PEERS = tuple(
    Peer(key=key, source=f"model.studies.{source}", network=name, measured=measured, on_training_frames=training)
    for key, source, name, measured, training in _BUILT
)
"""Those that are measured on one network as it is; [9] and [12] are `model.studies.paper.parts`'."""
