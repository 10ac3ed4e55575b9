"""Where the counts of a spiking network part from those of the quantized network."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from model.arrays import Floats, Ints
from model.conversion.quantized import counts_of_layers
from model.engine.engine import run_fast
from model.events import Events
from model.golden import answers
from model.network import INPUT, Layer, Network, Neurons
from model.rest import counts_of_layer, rounded
from model.studies.disturb import reorder
from model.studies.robustness_cases import links_to_neurons
from model.studies.robustness_results import PartingRow
from model.support.dataset import Dataset
from model.support.errors import NetworkError

__all__ = ["FINER", "FINER_ORDERS", "parting", "quantized_after", "with_finer_thresholds"]

FINER = (2, 4, 8)
"""What all thresholds are divided by, to see what hysteresis and what one spike an update cost."""

FINER_ORDERS = ("brightest", "raster", "random")
"""The orders in which that is done."""


def with_finer_thresholds(network: Network, level: int) -> Network | None:
    """The same function with all thresholds divided by ``level``, a power of two; `None` where they cannot be.

    Counts are then ``level`` times as large: what takes them has its bias so much larger too, and not a smaller threshold.
    """
    shift = level.bit_length() - 1
    scaled: set[str] = set()
    layers: list[Layer] = []
    for layer in network.layers:
        after = layer.source in scaled
        if after or isinstance(layer, Neurons):
            scaled.add(layer.name)
        if isinstance(layer, Neurons):
            changes: dict[str, Any] = {"count_bits": layer.count_bits + shift}
            if after:
                changes |= {"bias": layer.bias << shift, "potential_bits": layer.potential_bits + shift}
            else:
                changes |= {"threshold_log2": layer.threshold_log2 - shift}
            try:
                layer = replace(layer, **changes)
            except NetworkError:
                return None
        layers.append(layer)
    return replace(network, layers=tuple(layers))


def parting(
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
    common to all neurons changes no answer, what is left of 1 in the correlation may. *accuracy_after* is the answer's if all
    layers after this one were the quantized network's: where it falls, the answer is lost.
    """
    layers = [layer for layer in network.layers if isinstance(layer, Neurons)]
    on_the_way = {network.output.name, *links_to_neurons(network)}
    # A pool is exact in every order: what it passes on is what the neurons before it did.
    on_the_way |= {network.layer(name).source for name in links_to_neurons(network)}
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
                    by_count = answers(quantized_after(network, {layer.name: counts}))
                    parts.right += int((by_count == data.labels[batch]).sum())
            done(len(traces))
    return {
        order: tuple(
            PartingRow(
                layer=name,
                **parts.means(len(data)),
                accuracy_after=parts.right / len(data) if name in on_the_way else None,
            )
            for name, parts in of_layers.items()
        )
        for order, of_layers in found.items()
    }


@dataclass
class _Parts:
    """Sums over frames of a layer's count differences, as `parting` takes them apart."""

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


def quantized_after(network: Network, counts: dict[str, Ints]) -> Ints:
    """Counts of the classes, ``(frames, classes)``, of the quantized network after layers that counted ``counts``."""
    known = dict(counts)
    for layer, _, output in network.walk():
        if layer.name not in known and all(source in known for source in layer.sources):
            known[layer.name] = counts_of_layer(network, layer, output, known)
    return known[network.output.name].reshape(len(known[network.output.name]), -1)
