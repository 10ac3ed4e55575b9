"""What the study of robustness measures."""

from dataclasses import dataclass, field

from model.support.results import BESIDE

__all__ = ["Figures", "Parting", "PartingRow", "Robustness", "Row"]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a network does under a disturbance, mean of the trials.

    Parameters
    ----------
    accuracy, accuracy_least, accuracy_greatest : float
        By spike count: mean, least and greatest of the trials.
    accuracy_potential : float
        By membrane potential.
    answers_changed : float
        Share of the answers that differ from the undisturbed network's.
    events_per_frame, spikes_per_neuron, accumulations_per_frame, saturated_events_per_frame : float
        Input events, spikes, accumulations, and input events that saturated something.
    bits_flipped : float
        Weight bits that differ.
    """

    accuracy: float
    accuracy_least: float
    accuracy_greatest: float
    accuracy_potential: float
    answers_changed: float
    events_per_frame: float
    spikes_per_neuron: float
    accumulations_per_frame: int
    saturated_events_per_frame: float
    bits_flipped: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table.

    Parameters
    ----------
    name, level
        What is disturbed, and by how much.
    figures : Figures
        What it does.
    detail_accuracy, detail_accuracy_quantized : float or None
        Of the spiking and the quantized network under the same disturbance, on the frames looked at in detail.
    seeds : list of list of int
        Of each trial what its generator is made from; none where nothing is random.
    change, link : str or None
        Of a link within the network, what happens to its events, and the layer that they leave.
    bit : int or None
        The bit, where one bit of all weights is disturbed.
    """

    name: str
    level: float | None
    figures: Figures = field(metadata=BESIDE)
    detail_accuracy: float | None = None
    detail_accuracy_quantized: float | None = None
    seeds: list[list[int]]
    change: str | None = None
    link: str | None = None
    bit: int | None = None


@dataclass(frozen=True, kw_only=True)
class PartingRow:
    """How far a layer's counts are from the quantized network's; see `parting` for what the fields say."""

    layer: str
    counts_differing: float
    difference_mean: float
    difference_mean_absolute: float
    hysteresis: float
    backlog: float
    inherited: float
    gain: float | None
    correlation: float | None
    spikes_per_frame: float
    negative_spikes: float
    accumulations_per_frame: int
    accuracy_after: float | None


@dataclass(frozen=True, kw_only=True)
class Parting:
    """Counts against the quantized network's.

    Parameters
    ----------
    frames : int
        Frames looked at.
    orders : dict
        Of each order of a frame's events, its rows, one per layer.
    finer : dict
        The same for networks whose thresholds are divided by the key.
    """

    frames: int
    orders: dict[str, tuple[PartingRow, ...]]
    finer: dict[str, dict[str, tuple[PartingRow, ...]]]


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """What `study` measures; accuracies and shares of 1, numbers per frame where the name says so.

    Parameters
    ----------
    network, network_hash, dataset, frames, seed, trials, detail
        What was disturbed, on what, and how often.
    accuracy_quantized : float
        Of the quantized network, which knows no events.
    plain : Figures
        Of the undisturbed network.
    tables : dict
        Of each table its rows: ``order``, ``jitter``, ``events``, ``links``, ``weights``, ``weights by layer`` and
        ``weights by bit``.
    parting : Parting
        Where counts part from the quantized network's.
    """

    network: str
    network_hash: str
    dataset: str
    frames: int
    seed: int
    trials: int
    detail: int
    accuracy_quantized: float
    plain: Figures
    tables: dict[str, tuple[Row, ...]]
    parting: Parting
