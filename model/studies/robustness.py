"""What the answer is worth when events come in another order, get lost or multiply, and when weight bits flip.

The machine promises every event, in order, and weights as they were written. This study breaks each promise on purpose and by a
known amount. Nothing is retrained, nothing corrected: what is found is what the conversion itself tolerates.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from rich.progress import Progress

from model.arrays import Floats, Images, Ints
from model.conversion.quantized import counts_of_layers, quantized_counts
from model.encode import encode
from model.engine.engine import FrameSummaries, run_fast, run_frames
from model.events import Events
from model.golden import answers
from model.network import INPUT, Layer, Network, NetworkError, Neurons
from model.rest import counts_of_layer, rounded
from model.studies.disturb import ORDERS, drop, duplicate, flip_bits, flip_signs, insert_spurious, jitter, reorder
from model.support.dataset import Dataset
from model.support.frames import suited
from model.support.results import BESIDE

__all__ = ["Figures", "Parting", "PartingRow", "Robustness", "Row", "study"]

_SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Shares of the input events that are dropped, duplicated, added or turned."""

_WINDOWS = (2, 8, 32, 128)
"""Windows of `jitter`, in events."""

_LINK_SHARES = (0.01, 0.05, 0.2)
"""Shares of the events that a link within the network drops or duplicates."""

_FLIPS = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)
"""Probabilities that a weight bit is flipped."""

_LAYER_FLIPS = 1e-3
"""That probability where one layer after the other is disturbed."""

_POSITION_FLIPS = 1e-2
"""That probability where one bit after the other is disturbed: so much that the low bits show too."""

_ALSO_QUANTIZED = ("events", "weights", "weights by layer", "weights by bit")
"""The tables whose disturbances mean something to the quantized network too."""

_FINER = (2, 4, 8)
"""What all thresholds are divided by, to see what hysteresis and what one spike an update cost."""

_FINER_ORDERS = ("brightest", "raster", "random")
"""The orders in which that is done."""

_BATCH = 250
"""Frames at once in the quantized network: what the memory in use grows with."""

_BIT_SETS: dict[str, Callable[[int], Sequence[int]]] = {
    "all bits": lambda width: range(width),
    "top bit": lambda width: range(width - 1, width),
    "all but the top bit": lambda width: range(width - 1),
    "all but the top two": lambda width: range(max(0, width - 2)),
    "lowest two": lambda width: range(min(2, width)),
}
"""Of a weight's width the bits that may flip. What is left out is what an error-correcting memory would hold."""


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
    """How far a layer's counts are from the quantized network's; see `_parting` for what the fields say."""

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
    accuracy_behind: float | None


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


@dataclass(frozen=True)
class _Case:
    """One line of the study.

    Parameters
    ----------
    table : str
        The table in which the line stands.
    name, level
        What is disturbed, and by how much.
    make : callable
        From a generator the network and the frames of events to run.
    random : bool
        Whether `make` draws anything.
    change, link, bit
        As of `Row`.
    """

    table: str
    name: str
    level: float | None
    make: Callable[[np.random.Generator], tuple[Network, Sequence[Events]]]
    random: bool = True
    change: str | None = None
    link: str | None = None
    bit: int | None = None

    def seeds(self, seed: int, trials: int) -> list[list[int]]:
        """Of each trial what its generator is made from; of a line's own, so that no line depends on which others there are."""
        if not self.random:
            return []
        return [[seed, zlib.crc32(f"{self.table} {self.name} {self.level}".encode()), trial] for trial in range(trials)]


def study(
    network: Network, data: Dataset, *, seed: int = 1, trials: int = 3, detail: int = 1000, bar: Progress | None = None
) -> Robustness:
    """Run ``network`` on all frames of ``data`` under every disturbance.

    Parameters
    ----------
    network : Network
        The network to disturb.
    data : Dataset
        The frames to run.
    seed : int
        Seed of everything random.
    trials : int
        Runs of each random disturbance, each with numbers of its own.
    detail : int
        Frames, the first ones, that the quantized network runs too: in each order of events, and in the first trial of each
        disturbance of events or weights.
    bar : Progress, optional
        Shows progress.

    Returns
    -------
    Robustness
        What was measured.

    Raises
    ------
    DataError
        The frames do not suit the network.
    """
    data = suited(network, data)
    detail = min(detail, len(data))
    encoded = [encode(network, frame) for frame in data.images]
    cases = list(_cases(network, data.images, encoded))
    finer = {str(level): _with_finer_thresholds(network, level) for level in _FINER}
    runs = 1 + sum(len(case.seeds(seed, trials)) or 1 for case in cases)
    in_detail = len(ORDERS) + len(_FINER_ORDERS) * sum(each is not None for each in finer.values())
    total = runs * len(data) + in_detail * detail
    task = bar.add_task(f"{network.name}, {runs} runs of {len(data):,} frames", total=total) if bar else None

    def advance(frames: int) -> None:
        if bar and task is not None:
            bar.advance(task, frames)

    plain = run_frames(network, data.images, done=advance)
    tables: dict[str, list[Row]] = {}
    for case in cases:
        row = _row(case, network, data, plain, seeds=case.seeds(seed, trials), otherwise=[seed], detail=detail, done=advance)
        tables.setdefault(case.table, []).append(row)
    detailed = replace(data, images=data.images[:detail], labels=data.labels[:detail])
    return Robustness(
        network=network.name,
        network_hash=network.content_hash,
        dataset=data.name,
        frames=len(data),
        seed=seed,
        trials=trials,
        detail=detail,
        accuracy_quantized=float((answers(quantized_counts(network, data.images)) == data.labels).mean()),
        plain=_figures(network, plain, [(network, plain)], data.labels),
        tables={name: tuple(rows) for name, rows in tables.items()},
        parting=Parting(
            frames=detail,
            orders=_parting(network, detailed, encoded[:detail], ORDERS, seed, advance),
            finer={
                level: _parting(each, detailed, encoded[:detail], _FINER_ORDERS, seed, advance)
                for level, each in finer.items()
                if each is not None
            },
        ),
    )


def _row(
    case: _Case,
    network: Network,
    data: Dataset,
    plain: FrameSummaries,
    *,
    seeds: list[list[int]],
    otherwise: list[int],
    detail: int,
    done: Callable[[int], None],
) -> Row:
    """Run one line's trials; where nothing is random, the one that there is, with a generator made from ``otherwise``."""
    tried = []
    accuracy = accuracy_quantized = None
    for each in seeds or [otherwise]:
        disturbed, frames = case.make(np.random.default_rng(each))
        tried.append((disturbed, run_frames(disturbed, frames, done=done)))
        if accuracy is None and case.table in _ALSO_QUANTIZED:
            labels = data.labels[:detail]
            accuracy = float((answers(tried[0][1].counts[:detail]) == labels).mean())
            accuracy_quantized = _quantized_accuracy(disturbed, frames[:detail], labels)
    return Row(
        name=case.name,
        level=case.level,
        figures=_figures(network, plain, tried, data.labels),
        detail_accuracy=accuracy,
        detail_accuracy_quantized=accuracy_quantized,
        seeds=seeds,
        change=case.change,
        link=case.link,
        bit=case.bit,
    )


def _cases(network: Network, images: Images, encoded: Sequence[Events]) -> Iterator[_Case]:
    """All lines of the study, in the order of its tables."""
    shape = network.input_shape

    def inputs(change: Callable[[Events, np.random.Generator], Events]) -> Callable[..., tuple[Network, Sequence[Events]]]:
        return lambda rng: (network, [change(events, rng) for events in encoded])

    for order in ORDERS:

        def in_order(rng: np.random.Generator, order: str = order) -> tuple[Network, Sequence[Events]]:
            return network, [reorder(e, frame, shape, order, rng) for e, frame in zip(encoded, images, strict=True)]

        yield _Case("order", order, None, in_order, random=order == "random")
    for window in _WINDOWS:
        yield _Case("jitter", "jitter", window, inputs(lambda events, rng, w=window: jitter(events, w, rng)))  # type: ignore[misc]
    for name, change in _EVENT_CHANGES.items():
        for share in _SHARES:
            make = inputs(lambda events, rng, c=change, s=share: c(events, s, shape.size, rng))  # type: ignore[misc]
            yield _Case("events", name, share, make, random=share > 0)
    # Of a link all frames' events are kept, of one link at a time: they are many.
    spikes_of = lru_cache(maxsize=1)(lambda link: _spikes(network, link, encoded))
    for link in _links(network):
        behind = _behind(network, link)
        for name in ("dropped", "duplicated"):
            for share in _LINK_SHARES:

                def on_link(
                    rng: np.random.Generator,
                    link: str = link,
                    behind: Network = behind,
                    change: Callable[..., Events] = _EVENT_CHANGES[name],
                    share: float = share,
                ) -> tuple[Network, Sequence[Events]]:
                    return behind, [change(events, share, behind.input_shape.size, rng) for events in spikes_of(link)]

                yield _Case("links", f"{name} after {link}", share, on_link, change=name, link=link)

    def weights(
        bits: Callable[[int], Sequence[int]], probability: float, only: str | None = None
    ) -> Callable[[np.random.Generator], tuple[Network, Sequence[Events]]]:
        return lambda rng: (_with_flips(network, bits, probability, only, rng), encoded)

    for name, bits in _BIT_SETS.items():
        for probability in _FLIPS:
            yield _Case("weights", name, probability, weights(bits, probability), random=probability > 0)
    with_weights = [layer for layer in network.layers if isinstance(layer, Neurons)]
    for layer in with_weights:
        yield _Case("weights by layer", layer.name, _LAYER_FLIPS, weights(range, _LAYER_FLIPS, layer.name))
    for bit in reversed(range(max(layer.weight_bits for layer in with_weights))):
        # A layer of narrower weights does not have its upper bits.
        own = weights(lambda width, bit=bit: [bit] if bit < width else [], _POSITION_FLIPS)  # type: ignore[misc]
        yield _Case("weights by bit", f"bit {bit}", _POSITION_FLIPS, own, bit=bit)


_EVENT_CHANGES: dict[str, Callable[[Events, float, int, np.random.Generator], Events]] = {
    "dropped": lambda events, share, addresses, rng: drop(events, share, rng),
    "duplicated": lambda events, share, addresses, rng: duplicate(events, share, rng),
    "spurious": insert_spurious,
    "sign flipped": lambda events, share, addresses, rng: flip_signs(events, share, rng),
}


def _links(network: Network) -> list[str]:
    """The layers whose spikes travel to neurons on the way to the answer; a pool after neurons is fused with them."""
    found = []
    layer = network.output
    while layer.source != INPUT:
        if isinstance(layer, Neurons):
            found.append(layer.source)
        layer = network.layer(layer.source)
    return found[::-1]


def _behind(network: Network, link: str) -> Network:
    """The part of the network that hears of the spikes of ``link``, with these as its input."""
    layers: list[Layer] = []
    for layer in network.layers:
        if layer.source == link:
            layers.append(replace(layer, source=INPUT))
        elif any(layer.source == earlier.name for earlier in layers):
            layers.append(layer)
    return replace(network, input_shape=network.shape_of(link), layers=tuple(layers))


def _spikes(network: Network, link: str, encoded: Sequence[Events]) -> list[Events]:
    """The spikes of layer ``link`` in each frame."""
    way: list[Layer] = [network.layer(link)]
    while way[0].source != INPUT:
        way.insert(0, network.layer(way[0].source))
    until = replace(network, layers=tuple(way))
    return [run_fast(until, events).layers[link].spikes for events in encoded]


def _with_flips(
    network: Network, bits: Callable[[int], Sequence[int]], probability: float, only: str | None, rng: np.random.Generator
) -> Network:
    """The network with weight bits flipped; in the layer called ``only`` where one is named."""
    layers = [
        replace(layer, weights=flip_bits(layer.weights, layer.weight_bits, bits(layer.weight_bits), probability, rng))
        if isinstance(layer, Neurons) and only in (None, layer.name)
        else layer
        for layer in network.layers
    ]
    return replace(network, layers=tuple(layers))


def _figures(
    network: Network, plain: FrameSummaries, tried: Sequence[tuple[Network, FrameSummaries]], labels: Ints
) -> Figures:
    """What is told of the trials of one disturbance; layers that were not run again did what they do undisturbed."""
    neurons = np.array([isinstance(layer, Neurons) for layer in network.layers])
    usual = answers(plain.counts)
    right, right_potential, changed, flips = [], [], [], []
    events, fired, operations, saturated = [], [], [], []
    for disturbed, found in tried:
        by_count = answers(found.counts)
        right.append(float((by_count == labels).mean()))
        right_potential.append(float((answers(found.potentials) == labels).mean()))
        changed.append(float((by_count != usual).mean()))
        flips.append(_bits_flipped(network, disturbed))
        whole = [a.copy() for a in (plain.spikes, plain.operations, plain.saturated_events)]
        index_of = {layer.name: index for index, layer in enumerate(network.layers)}
        for column, layer in enumerate(disturbed.layers):
            for total, own in zip(whole, (found.spikes, found.operations, found.saturated_events), strict=True):
                total[:, index_of[layer.name]] = own[:, column]
        events.append(float(found.input_events.mean()))
        fired.append(float(whole[0][:, neurons].sum(axis=1).mean() / network.neurons))
        operations.append(float(whole[1].sum(axis=1).mean()))
        saturated.append(float(whole[2].sum(axis=1).mean()))
    return Figures(
        accuracy=float(np.mean(right)),
        accuracy_least=min(right),
        accuracy_greatest=max(right),
        accuracy_potential=float(np.mean(right_potential)),
        answers_changed=float(np.mean(changed)),
        events_per_frame=round(float(np.mean(events)), 2),
        spikes_per_neuron=round(float(np.mean(fired)), 4),
        accumulations_per_frame=round(float(np.mean(operations))),
        saturated_events_per_frame=round(float(np.mean(saturated)), 4),
        bits_flipped=round(float(np.mean(flips)), 1),
    )


def _bits_flipped(network: Network, disturbed: Network) -> int:
    """Weight bits in which the disturbed network, or the part of it that was run, differs."""
    found = 0
    for layer in disturbed.layers:
        usual = network.layer(layer.name)
        if isinstance(layer, Neurons) and isinstance(usual, Neurons):
            found += int(np.bitwise_count((layer.weights ^ usual.weights) & ((1 << layer.weight_bits) - 1)).sum())
    return found


def _with_finer_thresholds(network: Network, level: int) -> Network | None:
    """The same function with all thresholds divided by ``level``, a power of two; `None` where they cannot be.

    Counts are then ``level`` times as large: what takes them has its bias so much larger too, and not a smaller threshold.
    """
    shift = level.bit_length() - 1
    scaled: set[str] = set()
    layers: list[Layer] = []
    for layer in network.layers:
        behind = layer.source in scaled
        if behind or isinstance(layer, Neurons):
            scaled.add(layer.name)
        if isinstance(layer, Neurons):
            changes: dict[str, Any] = {"count_bits": layer.count_bits + shift}
            if behind:
                changes |= {"bias": layer.bias << shift, "potential_bits": layer.potential_bits + shift}
            else:
                changes |= {"threshold_log2": layer.threshold_log2 - shift}
            try:
                layer = replace(layer, **changes)
            except NetworkError:
                return None
        layers.append(layer)
    return replace(network, layers=tuple(layers))


def _parting(
    network: Network,
    data: Dataset,
    encoded: Sequence[Events],
    orders: Sequence[str],
    seed: int,
    done: Callable[[int], None] = lambda frames: None,
) -> dict[str, tuple[PartingRow, ...]]:
    """In each order, how far each layer's counts are from the quantized network's, by what, and what that does to the answer.

    With ``P`` the quantized count of the layer's own final potential, ``trunc(act(V) / theta)``, the difference from the
    quantized network is ``(Q - P) + (P - quantized)``: what the neuron made itself, and what it *inherited* from the counts
    before it. Of its own, what is less than a threshold away is *hysteresis*: the potential fell, and not far enough for the
    spike back. What is a whole threshold or more away is *backlog*: spikes still owed, as an update fires one at most.

    *gain* is the slope of the line that fits the counts best over the quantized ones, and *correlation* is Pearson's: a gain
    common to all neurons changes no answer, what is left of 1 in the correlation may. *accuracy_behind* is the answer's if all
    layers after this one were the quantized network's: where it falls, the answer is lost.
    """
    layers = [layer for layer in network.layers if isinstance(layer, Neurons)]
    on_the_way = {network.output.name, *_links(network)}
    # A pool is exact in every order: what it passes on is what the neurons before it did.
    on_the_way |= {network.layer(name).source for name in _links(network)}
    found = {order: {layer.name: _Parts() for layer in layers} for order in orders}
    generators = {order: np.random.default_rng([seed, zlib.crc32(order.encode())]) for order in orders}
    at = 0
    for quantized in counts_of_layers(network, data.images):
        batch = slice(at, at + len(quantized[INPUT]))
        at = batch.stop
        for order, rng in generators.items():
            traces = [
                run_fast(network, reorder(events, frame, network.input_shape, order, rng))
                for frame, events in zip(data.images[batch], encoded[batch], strict=True)
            ]
            for layer in layers:
                of_layer = [trace.layers[layer.name] for trace in traces]
                counts = np.stack([trace.count for trace in of_layer])
                potentials = np.stack([trace.potential for trace in of_layer])
                parts = found[order][layer.name]
                parts.add(layer, counts, potentials, quantized[layer.name], deferred=network.deferred)
                parts.spikes += sum(len(trace.spikes) for trace in of_layer)
                parts.negative += sum(int((trace.spikes["sign"] < 0).sum()) for trace in of_layer)
                parts.operations += sum(trace.operations for trace in of_layer)
                if layer.name in on_the_way:
                    by_count = answers(_quantized_behind(network, {layer.name: counts}))
                    parts.right += int((by_count == data.labels[batch]).sum())
            done(len(traces))
    return {
        order: tuple(
            PartingRow(
                layer=name,
                **parts.means(len(data)),
                accuracy_behind=parts.right / len(data) if name in on_the_way else None,
            )
            for name, parts in of_layers.items()
        )
        for order, of_layers in found.items()
    }


@dataclass
class _Parts:
    """Sums over frames of a layer's count differences, as `_parting` takes them apart."""

    neurons: int = 0
    sums: Floats = field(default_factory=lambda: np.zeros(6))
    line: Floats = field(default_factory=lambda: np.zeros(5))
    spikes: int = 0
    negative: int = 0
    operations: int = 0
    right: int = 0

    def add(self, layer: Neurons, counts: Ints, potentials: Ints, quantized: Ints, *, deferred: bool) -> None:
        """Take a batch of counts and potentials, ``(frames, height, width, channels)``."""
        end = None if layer.count_max is None else layer.count_max * layer.theta
        activation = np.clip(potentials, 0, end) if layer.relu else potentials
        whole = rounded(layer, potentials / layer.theta, deferred=deferred).astype(np.int64)
        own = np.abs(counts - whole)
        owed = np.abs(activation - counts * layer.theta) >= layer.theta
        difference = counts - quantized
        self.neurons += counts.size
        self.sums += (
            (difference != 0).sum(),
            difference.sum(),
            np.abs(difference).sum(),
            own[~owed].sum(),
            own[owed].sum(),
            np.abs(whole - quantized).sum(),
        )
        self.line += [float(n.sum()) for n in (counts, quantized, counts * quantized, counts**2, quantized**2)]

    def means(self, frames: int) -> dict[str, Any]:
        """Mean magnitudes in spikes per neuron, the line that fits, and the spikes."""
        keys = ("counts_differing", "difference_mean", "difference_mean_absolute", "hysteresis", "backlog", "inherited")
        y, x, xy, yy, xx = self.line / self.neurons
        shared, of_counts, of_quantized = xy - x * y, yy - y * y, xx - x * x
        return {
            **{key: round(float(total) / self.neurons, 5) for key, total in zip(keys, self.sums, strict=True)},
            "gain": round(float(shared / of_quantized), 4) if of_quantized > 0 else None,
            "correlation": round(float(shared / np.sqrt(of_counts * of_quantized)), 4) if of_counts * of_quantized > 0 else None,
            "spikes_per_frame": round(self.spikes / frames, 1),
            "negative_spikes": round(self.negative / max(1, self.spikes), 4),
            "accumulations_per_frame": round(self.operations / frames),
        }


def _quantized_behind(network: Network, counts: dict[str, Ints]) -> Ints:
    """Counts of the classes, ``(frames, classes)``, of the quantized network after layers that counted ``counts``."""
    known = dict(counts)
    for layer, shape, output in network.walk():
        if layer.name not in known and layer.source in known:
            known[layer.name] = counts_of_layer(layer, shape, output, known[layer.source], deferred=network.deferred)
    return known[network.output.name].reshape(len(known[network.output.name]), -1)


def _quantized_accuracy(network: Network, frames: Sequence[Events], labels: Ints) -> float:
    """Accuracy of the quantized network on the sums of events at each address, whatever their order."""
    right = 0
    for at in range(0, len(labels), _BATCH):
        size = network.input_shape.size
        sums = [np.bincount(events["address"], events["sign"], minlength=size) for events in frames[at : at + _BATCH]]
        counts = np.array(sums).astype(np.int64).reshape(-1, *network.input_shape)
        right += int((answers(_quantized_behind(network, {INPUT: counts})) == labels[at : at + _BATCH]).sum())
    return right / len(labels)
