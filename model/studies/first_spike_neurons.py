"""Neurons that fire once, with a threshold that stays: from one input spike to the next."""

import numpy as np

from model.support.compiled import njit

__all__ = ["fire"]


@njit(cache=True, nogil=True)
def fire(times, slopes, begin, starts, targets, weights, duration):  # type: ignore[no-untyped-def]
    """When each neuron reaches the threshold of 1, ``(frames, neurons)``; and the potentials of the others at the end.

    Parameters
    ----------
    times
        Of the input spikes, ``(frames, inputs)``.
    slopes
        Of the potentials before any input spike, ``(frames, neurons)``, from ``begin`` on, ``(frames,)``.
    """
    frames = len(times)
    neurons = slopes.shape[1]
    fired = np.full((frames, neurons), np.inf)
    potentials = np.zeros((frames, neurons))
    last, slope = np.empty(neurons), np.empty(neurons)
    for frame in range(frames):
        if begin[frame] > duration:
            continue
        potential, when = potentials[frame], fired[frame]
        last[:] = begin[frame]
        slope[:] = slopes[frame]
        for address in np.argsort(times[frame]):
            time = times[frame, address]
            if time > duration:
                break
            for at in range(starts[address], starts[address + 1]):
                neuron = targets[at]
                if when[neuron] < np.inf:
                    continue
                reached = potential[neuron] + slope[neuron] * (time - last[neuron])
                if reached >= 1.0:
                    when[neuron] = last[neuron] + (1.0 - potential[neuron]) / slope[neuron]
                    continue
                potential[neuron], last[neuron] = reached, time
                slope[neuron] += weights[at]
        for neuron in range(neurons):
            if when[neuron] < np.inf:
                continue
            reached = potential[neuron] + slope[neuron] * (duration - last[neuron])
            if reached >= 1.0:
                when[neuron] = last[neuron] + (1.0 - potential[neuron]) / slope[neuron]
            else:
                potential[neuron] = reached
    return fired, potentials
