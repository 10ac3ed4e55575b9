"""Which of the rare things happened in a run, so that its equality says something of them too.

All of it is read off the golden model's traces and the cycle model's records of the very frames that were simulated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.arrays import Bools
from model.golden import LayerTrace, Trace, fan_out
from model.machine.cycles import Cycles
from model.machine.initial import initial_words
from model.machine.plan import Plan
from model.machine.stages import core_plan, stages
from model.network import Layer, Network, Neurons
from model.neuron import accumulate_residual, flush_residual, update_burst_residual, update_residual
from model.rest import first_states
from sim.scoreboard import taken_flushes

__all__ = ["CoreCoverage", "Coverage", "LayerCoverage", "coverage", "layers_covered"]


@dataclass(frozen=True, kw_only=True)
class LayerCoverage:
    """What happened in a layer, in all frames.

    Parameters
    ----------
    layer : str
        Its name.
    rest_neurons : int
        Neurons (of a max-pool, windows) whose count at the start of a frame is not 0.
    rest_spikes_saved : int
        Spikes that would have brought these counts there, had the frames not started with them.
    burst_updates : int
        Updates, or visits at a flush, that fired more than one spike.
    flushes, empty_flushes : int
        Flushes that passed, and those of them that had nothing to send; 0 where the network fires immediately.
    border_classes, border_classes_used : int
        Kinds of positions by what they start a frame with, and those of them that were updated; 0 of a max-pool.
    residual_saturations : int
        Updates in which the residual was held at its end; deferred: neurons whose sum did not fit at a flush.
    count_saturations : int
        Updates, or visits at a flush, that fired less than they were to, as the count was at its end.
    """

    layer: str
    rest_neurons: int
    rest_spikes_saved: int
    burst_updates: int
    flushes: int
    empty_flushes: int
    border_classes: int
    border_classes_used: int
    residual_saturations: int
    count_saturations: int


@dataclass(frozen=True, kw_only=True)
class CoreCoverage:
    """What happened in a core, by the cycle model.

    Parameters
    ----------
    core : str
        Its name: of the link that leaves it.
    generation_wraps : int
        How often its generation tags began again from 1, after which they are swept.
    stalled_cycles : int
        Cycles in which what comes after it had no room. A folded machine, which works on one layer at a time, has none.
    """

    core: str
    generation_wraps: int
    stalled_cycles: int


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Which of the rare things happened in a run.

    Parameters
    ----------
    frames : int
        Frames simulated.
    input_spikes_of_higher_levels : int
        Positive spikes of pixels that had fired before in the frame.
    layers : tuple[LayerCoverage, ...]
        Of each layer.
    cores : tuple[CoreCoverage, ...]
        Of each core.
    """

    frames: int
    input_spikes_of_higher_levels: int
    layers: tuple[LayerCoverage, ...]
    cores: tuple[CoreCoverage, ...]

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Coverage":
        """What ``asdict`` made of one."""
        layers = tuple(LayerCoverage(**layer) for layer in fields["layers"])
        return cls(**{**fields, "layers": layers, "cores": tuple(CoreCoverage(**core) for core in fields["cores"])})

    def counted(self) -> dict[str, int]:
        """How often each of the rare things happened, those that did not too."""
        layers, cores = self.layers, self.cores
        return {
            "spikes saved by the state at rest": sum(layer.rest_spikes_saved for layer in layers),
            "updates that fired several spikes": sum(layer.burst_updates for layer in layers),
            "flushes with nothing to send": sum(layer.empty_flushes for layer in layers),
            "saturated residuals": sum(layer.residual_saturations for layer in layers),
            "counts at their end": sum(layer.count_saturations for layer in layers),
            "wraps of generation tags": sum(core.generation_wraps for core in cores),
            "input spikes of a higher level": self.input_spikes_of_higher_levels,
            "stalled cycles": sum(core.stalled_cycles for core in cores),
        }

    def summary(self) -> str:
        """What happened and what did not, in a line."""
        several = [layer for layer in self.layers if layer.border_classes > 1]
        borders = f"{sum(layer.border_classes_used for layer in several)} of {sum(layer.border_classes for layer in several)}"
        found = [f"{number:,} {what}" for what, number in self.counted().items() if number]
        found += [f"{borders} border classes used"] if several else []
        return ", ".join(found) or "none of the rare things"


def coverage(network: Network, plan: Plan, frames: Sequence[Trace], cycles: Cycles) -> Coverage:
    """Which of the rare things happened.

    Parameters
    ----------
    network, plan : Network, Plan
        What was simulated.
    frames : Sequence[Trace]
        The golden model's traces of the frames.
    cycles : Cycles
        The cycle model's record of them.
    """
    cores = (
        CoreCoverage(
            core=stage.name,
            generation_wraps=len(frames) // (2 ** core_plan(network, plan, stage).generation_bits - 1),
            stalled_cycles=use.blocked,
        )
        for stage, use in zip(stages(network), cycles.cores, strict=True)
    )
    return Coverage(
        frames=len(frames),
        input_spikes_of_higher_levels=sum(_again(frame) for frame in frames),
        layers=layers_covered(network, frames),
        cores=tuple(cores),
    )


def layers_covered(network: Network, frames: Sequence[Trace]) -> tuple[LayerCoverage, ...]:
    """What happened in each layer."""
    return tuple(_of_layer(network, frames, layer) for layer in network.layers)


def _again(frame: Trace) -> int:
    """Positive input spikes of addresses that had one before."""
    positive = frame.events["address"][frame.events["sign"] > 0]
    return len(positive) - len(np.unique(positive))


def _of_layer(network: Network, frames: Sequence[Trace], layer: Layer) -> LayerCoverage:
    traces = [frame.layers[layer.name] for frame in frames]
    at_rest = np.abs(first_states(network)[layer.name].count)
    classes, used, residuals, counts = 0, 0, 0, 0
    if isinstance(layer, Neurons):
        words = initial_words(network, layer)
        of_position = np.add.outer(np.array(words.row_classes) * words.count.shape[1], np.array(words.column_classes))
        classes = len(np.unique(of_position))
        used = len(np.unique(of_position[_updated(network, layer, traces)]))
        held = [_held(frame, layer) for frame in frames if frame.layers[layer.name].saturated_updates]
        residuals, counts = (int(sum(number)) for number in zip(*held, strict=True)) if held else (0, 0)
    return LayerCoverage(
        layer=layer.name,
        rest_neurons=int(np.count_nonzero(at_rest)),
        rest_spikes_saved=int(at_rest.sum()) * len(traces),
        burst_updates=sum(_bursts(trace) for trace in traces),
        flushes=sum(len(trace.flushes) for trace in traces),
        empty_flushes=sum(int((np.diff([0, *(flush.after for flush in trace.flushes)]) == 0).sum()) for trace in traces),
        border_classes=classes,
        border_classes_used=used,
        residual_saturations=residuals,
        count_saturations=counts,
    )


def _bursts(trace: LayerTrace) -> int:
    """Updates that fired more than one spike: these follow each other, of one neuron and of one cause."""
    neuron, cause = trace.spikes["address"].astype(np.int64), trace.spikes["cause"].astype(np.int64)
    same = (neuron[1:] == neuron[:-1]) & (cause[1:] == cause[:-1])
    # The first of each run of spikes that are like the one before.
    return int((same & ~np.append(False, same[:-1])).sum()) if len(same) else 0


def _updated(network: Network, layer: Layer, traces: Sequence[LayerTrace]) -> Bools:
    """Which positions were updated; a flush visits all of them."""
    height, width, _ = traces[0].count.shape
    updated = np.full((height, width), network.deferred)
    addresses = np.concatenate([trace.events["address"] for trace in traces])
    for taker, shape, first in network.inputs(layer):
        mine = addresses[(addresses >= first) & (addresses < first + shape.size)] - first
        rows, columns = ([[out for out, _ in reached] for reached in taker.taps(shape, axis)] for axis in (0, 1))
        for place in np.unique(mine // shape.channels):
            y, x = divmod(int(place), shape.width)
            updated[np.ix_(rows[y], columns[x])] = True
    return updated


def _held(frame: Trace, layer: Neurons) -> tuple[int, int]:
    """Updates in which the residual was held at its end, and those in which the count was; counted by going through the frame."""
    network, events = frame.network, frame.layers[layer.name].events
    start, inputs = first_states(network)[layer.name], network.inputs(layer)
    output, weights = network.shape_of(layer.name), [each.weights.astype(np.int64) for each in layer.inputs]
    R, Q = start.potential - start.count * layer.theta, start.count.copy()
    residuals, counts, first = 0, 0, 0
    algorithm = update_residual if layer.burst == 1 else update_burst_residual
    # Each event is a visit; deferred, the visits are at flushes.
    for end in taken_flushes(frame, layer) if network.deferred else range(1, len(events) + 1):
        for event in events[first:end]:
            number = max(n for n, each in enumerate(inputs) if each.first <= event["address"])
            shape = inputs[number].shape
            place = shape.coordinates(event["address"] - inputs[number].first)
            for *slices, W in fan_out(layer.inputs[number], weights[number], shape, output, *place):
                window, drive = tuple(slices), event["sign"] * W
                if network.deferred:
                    R[window] = accumulate_residual(layer, R[window], drive)
                    continue
                kept = np.clip(R[window] + drive, *layer.residual_limits) - R[window]
                residuals += int((kept != drive).sum())
                # What fits saturates for the count alone.
                R[window], Q[window], _, held = algorithm(layer, R[window], Q[window], kept)
                counts += int(held.sum())
        if network.deferred:
            lowest, highest = layer.residual_limits
            residuals += int(((R < lowest) | (R > highest)).sum())
            R, Q, _, _ = flush_residual(layer, R, Q)
            # Whole thresholds are left where the count is at its end; beyond the activation's own end they are no loss.
            above = R >= layer.theta + layer.halves_to_even
            counts += int((above & (layer.count_max is None) | (R < 0) & (not layer.relu)).sum())
        first = end
    return residuals, counts
