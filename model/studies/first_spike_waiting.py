"""Neurons that fire once, with a threshold that rises with the input still to come: from event to event.

A layer hears more of its source than spikes: of which neurons one is still to be expected. A neuron is *expected* to fire while
it has not fired and its potential rises; a max-pool's window, while it has passed none and a neuron in it is expected. The
threshold of neuron ``i`` is ``1 + sum of |W_ij|`` over the expected inputs ``j``, and so falls as they fire, or no longer rise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.arrays import Floats, Ints
from model.studies.synapses import NeuronStage, PoolStage
from model.support.compiled import njit

__all__ = ["Events", "ThresholdCosts", "pool_waiting", "run_waiting"]

_EXPECTED, _NOT_EXPECTED, _FIRES, _FIRES_UNEXPECTED = range(4)
"""Kinds of events: an input is expected; no longer; fires, and is no longer expected; fires though it was not expected, which
is so where its threshold fell to its potential."""


@dataclass(frozen=True)
class Events:
    """What a layer hears of its source in a frame, by time; at the same time what is expected comes first.

    Parameters
    ----------
    times : Floats
        When.
    addresses : Ints
        Of which input.
    kinds : npt.NDArray[np.int8]
        What.
    """

    times: Floats
    addresses: Ints
    kinds: npt.NDArray[np.int8]

    def first_spike(self) -> float:
        """When the first input fires; infinite where none does."""
        spikes = self.times[self.kinds >= _FIRES]
        return float(spikes[0]) if len(spikes) else np.inf

    def spike_times(self, inputs: int) -> Floats:
        """When each input fires; infinite where it does not."""
        found = np.full(inputs, np.inf)
        spikes = self.kinds >= _FIRES
        found[self.addresses[spikes]] = self.times[spikes]
        return found

    def threshold_costs(self, fan_out: Ints) -> "ThresholdCosts":
        """When thresholds change, and how many have changed by then."""
        changing = self.kinds != _FIRES_UNEXPECTED
        return self.times[changing], fan_out[self.addresses[changing]].cumsum()


def _in_order(times: Floats, addresses: Ints, kinds: npt.NDArray[np.int8]) -> Events:
    order = np.lexsort((kinds != _EXPECTED, times))
    return Events(times[order], addresses[order], kinds[order])


def _pixel_events(times: Floats) -> Events:
    """Of pixels that are spikes at these times: one that fires is expected from the start."""
    lit = np.flatnonzero(np.isfinite(times))
    kinds = np.repeat(np.array([_EXPECTED, _FIRES], np.int8), len(lit))
    return _in_order(np.concatenate([np.zeros(len(lit)), times[lit]]), np.concatenate([lit, lit]), kinds)


ThresholdCosts = tuple[Floats, Ints]
"""When thresholds of a layer change, and how many have changed by then."""


def run_waiting(
    stages: Sequence[NeuronStage | PoolStage], pixels: Floats, currents: Floats | None, duration: float
) -> tuple[dict[str, Floats], Floats, list[list[ThresholdCosts]]]:
    """Run frames, one after the other.

    Parameters
    ----------
    stages : Sequence[NeuronStage | PoolStage]
        A chain, the last one of neurons.
    pixels : Floats
        When each pixel fires, ``(frames, pixels)``; of no pixels where they are currents.
    currents : Floats | None
        The slopes of the first layer's potentials, where pixels are currents.
    duration : float
        When frames end.

    Returns
    -------
    tuple
        When the neurons of each stage fire, ``(frames, neurons)``, infinite where they do not; potentials at the end of the last
        stage's neurons that have not fired; and what thresholds cost, of each neuron layer and frame.
    """
    sizes = {stage.name: len(stage.starts) - 1 if isinstance(stage, PoolStage) else len(stage.bias) for stage in stages}
    times = {name: np.empty((len(pixels), size)) for name, size in sizes.items()}
    neurons = [stage for stage in stages if isinstance(stage, NeuronStage)]
    rises = {stage.name: np.abs(stage.synapses.weights) for stage in neurons}
    costs: list[list[ThresholdCosts]] = [[] for _ in neurons]
    potentials = left = np.zeros((len(pixels), len(neurons[-1].bias)))
    for frame, row in enumerate(pixels):
        events, layer = _pixel_events(row), 0
        for stage in stages:
            if isinstance(stage, PoolStage):
                events = pool_waiting(events, stage)
            else:
                costs[layer].append(events.threshold_costs(stage.synapses.fan_out))
                slopes, begin = stage.bias, events.first_spike()
                if currents is not None and layer == 0:
                    slopes, begin = currents[frame], 0.0
                events, left = _layer(events, stage, rises[stage.name], slopes, begin, duration)
                layer += 1
            times[stage.name][frame] = events.spike_times(sizes[stage.name])
        potentials[frame] = left
    return times, potentials, costs


def _layer(
    events: Events, stage: NeuronStage, rises: Floats, slopes: Floats, begin: float, duration: float
) -> tuple[Events, Floats]:
    """What a layer's neurons do in a frame.

    Parameters
    ----------
    events : Events
        Of the source.
    stage : NeuronStage
        The layer.
    rises : Floats
        Of each synapse, by how much the threshold is higher while its input is expected; at least 0.
    slopes : Floats
        Of the potentials from ``begin`` on, before any spike arrives, ``(neurons,)``.
    begin, duration : float
        When potentials begin to change, which is no later than the first spike arrives; and when the frame ends.

    Returns
    -------
    tuple
        The layer's own events; and the potentials at the end of neurons that do not fire.
    """
    synapses = stage.synapses
    times, addresses, kinds, potentials = _fire_waiting(
        events.times, events.addresses, events.kinds, slopes, begin, synapses.starts, synapses.targets, synapses.weights,
        rises, duration,
    )
    return _in_order(times, addresses, kinds), potentials


def pool_waiting(events: Events, stage: PoolStage) -> Events:
    """What the windows of a max-pool do in a frame: each passes the first spike of its neurons."""
    order = np.argsort(stage.addresses, kind="stable")
    windows = np.repeat(np.arange(len(stage.starts) - 1), np.diff(stage.starts))[order]
    inputs = max(int(stage.addresses.max(initial=-1)), int(events.addresses.max(initial=-1))) + 1
    starts = np.concatenate([[0], np.bincount(stage.addresses, minlength=inputs).cumsum()])
    return Events(*_pool_waiting(events.times, events.addresses, events.kinds, starts, windows, len(stage.starts) - 1))


@njit(cache=True, nogil=True)
def _twice(array):  # type: ignore[no-untyped-def]
    """The array with room for as much again."""
    larger = np.empty(2 * len(array), array.dtype)
    larger[: len(array)] = array
    return larger


@njit(cache=True, nogil=True)
def _fire_waiting(  # type: ignore[no-untyped-def]
    times, addresses, kinds, slopes, begin, starts, targets, weights, rises, duration
):
    """`_layer` of arrays; the events it gives are in no order."""
    neurons = len(slopes)
    potential, level, last, slope = np.zeros(neurons), np.ones(neurons), np.full(neurons, begin), slopes.copy()
    fired, expected = np.zeros(neurons, np.bool_), np.zeros(neurons, np.bool_)
    found = 0
    room = 2 * neurons
    found_times, found_neurons, found_kinds = np.empty(room), np.empty(room, np.int64), np.empty(room, np.int8)
    if begin > duration:
        return found_times[:0], found_neurons[:0], found_kinds[:0], potential
    for neuron in range(neurons):
        if slope[neuron] > 0:
            expected[neuron] = True
            found_times[found], found_neurons[found], found_kinds[found] = begin, neuron, _EXPECTED
            found += 1
    for event in range(len(times)):
        if times[event] > duration:
            break
        # Before the layer's first spike potentials are 0.
        time, kind, address = max(times[event], begin), kinds[event], addresses[event]
        for at in range(starts[address], starts[address + 1]):
            neuron = targets[at]
            if fired[neuron]:
                continue
            happened = -1
            when = time
            reached = potential[neuron] + slope[neuron] * (time - last[neuron])
            if reached >= level[neuron]:
                when = last[neuron] + (level[neuron] - potential[neuron]) / slope[neuron]
                happened = _FIRES
            else:
                potential[neuron], last[neuron] = reached, time
                if kind == _EXPECTED:
                    level[neuron] += rises[at]
                    continue
                if kind != _FIRES_UNEXPECTED:
                    level[neuron] -= rises[at]
                if reached >= level[neuron]:
                    happened = _FIRES if expected[neuron] else _FIRES_UNEXPECTED
                elif kind != _NOT_EXPECTED:
                    slope[neuron] += weights[at]
                    if expected[neuron] != (slope[neuron] > 0):
                        happened = _NOT_EXPECTED if expected[neuron] else _EXPECTED
                        expected[neuron] = not expected[neuron]
            if happened < 0:
                continue
            fired[neuron] = happened >= _FIRES
            if found == len(found_times):
                found_times, found_neurons, found_kinds = _twice(found_times), _twice(found_neurons), _twice(found_kinds)
            found_times[found], found_neurons[found], found_kinds[found] = when, neuron, happened
            found += 1
    for neuron in range(neurons):
        if fired[neuron]:
            continue
        reached = potential[neuron] + slope[neuron] * (duration - last[neuron])
        if reached < level[neuron]:
            potential[neuron] = reached
            continue
        if found == len(found_times):
            found_times, found_neurons, found_kinds = _twice(found_times), _twice(found_neurons), _twice(found_kinds)
        found_times[found] = last[neuron] + (level[neuron] - potential[neuron]) / slope[neuron]
        found_neurons[found], found_kinds[found] = neuron, _FIRES
        found += 1
    return found_times[:found], found_neurons[:found], found_kinds[:found], potential


@njit(cache=True, nogil=True)
def _pool_waiting(times, addresses, kinds, starts, windows, outputs):  # type: ignore[no-untyped-def]
    """`pool_waiting` of arrays; ``windows[starts[i] : starts[i + 1]]`` are those that neuron ``i`` is in."""
    most = 0
    for address in addresses:
        most += starts[address + 1] - starts[address]
    found = 0
    found_times, found_windows, found_kinds = np.empty(most), np.empty(most, np.int64), np.empty(most, np.int8)
    expected, fired = np.zeros(outputs, np.int64), np.zeros(outputs, np.bool_)
    for event in range(len(times)):
        kind, address = kinds[event], addresses[event]
        for at in range(starts[address], starts[address + 1]):
            window = windows[at]
            if fired[window]:
                continue
            if kind >= _FIRES:
                happened = _FIRES if expected[window] else _FIRES_UNEXPECTED
                fired[window] = True
            elif kind == _EXPECTED:
                expected[window] += 1
                happened = kind if expected[window] == 1 else -1
            else:
                expected[window] -= 1
                happened = kind if expected[window] == 0 else -1
            if happened >= 0:
                found_times[found], found_windows[found], found_kinds[found] = times[event], window, happened
                found += 1
    return found_times[:found], found_windows[:found], found_kinds[:found]
