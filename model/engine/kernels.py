"""The compiled loops of the engine: encoder, neurons and max-pool, over the events of many frames."""

import numpy as np

from model.engine.tables import LANES
from model.support.compiled import njit

__all__ = ["encode_frames", "integrate", "pool"]

@njit(cache=True, nogil=True)
def encode_frames(frames, threshold):  # type: ignore[no-untyped-def]
    """As `model.encode.encode`, of frames ``(frames, pixels)``: addresses, and where each frame starts."""
    addresses, starts = np.empty(frames.size, np.int32), np.zeros(len(frames) + 1, np.int64)
    ends, found = np.empty(256, np.int64), 0
    for frame in range(len(frames)):
        # Counting sort: of each brightness, where its pixels go.
        ends[:] = 0
        for pixel in frames[frame]:
            ends[pixel] += 1
        total = 0
        for value in range(255, threshold, -1):
            total, ends[value] = total + ends[value], total
        for address in range(frames.shape[1]):
            value = frames[frame, address]
            if value > threshold:
                addresses[found + ends[value]] = address
                ends[value] += 1
        found += total
        starts[frame + 1] = found
    return addresses[:found].copy(), starts


@njit(cache=True, nogil=True)
def _grown(spikes, more):  # type: ignore[no-untyped-def]
    """``spikes`` with room for as many again, and ``more``."""
    grown = np.empty((4, 2 * spikes.shape[1] + more), np.int32)
    grown[:, : spikes.shape[1]] = spikes
    return grown


@njit(cache=True, nogil=True)
def _add(residual, below, weights, flags, neuron, weight, blocks, flip, above):  # type: ignore[no-untyped-def]
    """Add ``blocks`` of weights to as many residuals, in the arrays' own type. A loop that compilers make vectors of.

    Makes ``flags`` negative where a neuron may fire or saturate. Returns a negative number where one may, and the least
    residual of the others, 0 at most.
    """
    kind = residual.dtype.type
    # Unsigned, or the compiler allows for indices from the end.
    neuron, weight = np.uint64(neuron), np.uint64(weight)
    outside, least = kind(0), kind(0)
    for n in range(np.uint64(blocks * LANES)):
        # x ^ flip - flip is the negative of x where flip is -1.
        total = kind(residual[neuron + n] + kind(kind(weights[weight + n] ^ flip) - flip))
        residual[neuron + n] = total
        flag = kind(kind(total - below[neuron + n]) | kind(above - total))
        flags[n] = flag
        outside = kind(outside | flag)
        least = min(least, total if flag >= 0 else kind(0))
    return outside, least


@njit(cache=True, nogil=True)
def _settle(total, count, theta, silent, lowest, highest, fewest, most):  # type: ignore[no-untyped-def]
    """Saturate, compare and fire: the residual to store, the spike, and whether something was held back."""
    held = total > highest or total < lowest
    total = min(max(total, lowest), highest)
    fired = 0
    if total >= theta:
        fired = 1 if count < most else 0
        held |= fired == 0
    elif total <= -theta and count > silent:
        fired = -1 if count > fewest else 0
        held |= fired == 0
    return total - fired * theta, fired, held


@njit(cache=True, nogil=True)
def integrate(
    address,
    sign,
    origin,
    starts,
    row_size,
    bias,
    weights,
    theta,
    relu,
    lowest,
    highest,
    fewest,
    most,
    keep_states,
    places,
    row_ranges,
    row_taps,
    runs,
):  # type: ignore[no-untyped-def]
    frames, neurons = len(starts) - 1, len(bias) - LANES
    # A neuron whose count is not above this never fires -1, nor is it held from doing so.
    silent = 0 if relu else fewest - 1
    residual, count = np.empty_like(bias), np.empty(neurons, np.int32)
    # A neuron below its own limit fires -1 or saturates; one above the common limit fires +1 or is held from it.
    kind = residual.dtype.type
    below, above = np.empty_like(bias), kind(theta - 1)
    residuals = np.empty((frames if keep_states else 0, neurons), np.int32)
    counts = np.empty((frames if keep_states else 0, neurons), np.int32)
    spikes, found = np.empty((4, 1024), np.int32), 0
    ends = np.zeros(frames + 1, np.int64)
    # Of each frame: operations, saturated updates, saturated events.
    numbers = np.zeros((3, frames), np.int64)
    most_seen = least_seen = greatest_seen = np.int64(0)
    taps, inputs, longest = weights.shape[1:]
    # Of a run, who may fire or saturate: a sign bit per neuron, several in a word.
    words_per_block = LANES * residual.itemsize // 8
    flags = np.zeros(longest, residual.dtype)
    words = flags.view(np.uint64)
    signs = np.uint64(0x8000800080008000 if residual.itemsize == 2 else 0x8000000080000000)
    flat = weights.reshape(-1)
    for frame in range(frames):
        residual[:] = bias
        count[:] = 0
        below[:] = lowest if silent >= 0 else 1 - theta
        for index in range(starts[frame], starts[frame + 1]):
            y, x = places[address[index], 0], places[address[index], 1]
            c, reached = places[address[index], 2], places[address[index], 3]
            flip = kind(0 if sign[index] > 0 else -1)
            saturated_before = numbers[1, frame]
            for oy in range(row_ranges[y, 0], row_ranges[y, 1]):
                tap = row_taps[y, oy - row_ranges[y, 0]]
                for run in range(runs.shape[1]):
                    start = oy * row_size + runs[x, run, 0] + reached
                    size = runs[x, run, 1]
                    numbers[0, frame] += size
                    first = ((runs[x, run, 2] * taps + tap) * inputs + c) * longest
                    blocks = (size + LANES - 1) // LANES
                    outside, least = _add(residual, below, flat, flags, start, first, blocks, flip, above)
                    least_seen = min(least_seen, np.int64(least))
                    if outside >= 0:
                        continue
                    if found + size > spikes.shape[1]:
                        spikes = _grown(spikes, size)
                    # Several flags at a time: words of them without a sign bit set are of no interest.
                    for block in range(blocks):
                        word = np.uint64(block * words_per_block)
                        seen = words[word]
                        for more in range(np.uint64(1), np.uint64(words_per_block)):
                            seen |= words[word + more]
                        if not seen & signs:
                            continue
                        for at in range(block * LANES, min((block + 1) * LANES, size)):
                            if flags[np.uint64(at)] >= 0:
                                continue
                            n = np.uint64(start + at)
                            total = np.int64(residual[n])
                            total, fired, held = _settle(total, count[n], theta, silent, lowest, highest, fewest, most)
                            if fired != 0:
                                count[n] += fired
                                below[n] = 1 - theta if count[n] > silent else lowest
                                most_seen = max(most_seen, abs(count[n]))
                                spikes[0, found], spikes[1, found] = n, fired
                                spikes[2, found], spikes[3, found] = index - starts[frame], origin[index]
                                found += 1
                            residual[n] = total
                            least_seen, greatest_seen = min(least_seen, total), max(greatest_seen, total)
                            numbers[1, frame] += held
            numbers[2, frame] += numbers[1, frame] > saturated_before
        ends[frame + 1] = found
        if keep_states:
            residuals[frame], counts[frame] = residual[:neurons], count
    return spikes[:, :found], ends, residuals, counts, numbers, most_seen, least_seen, greatest_seen


@njit(cache=True, nogil=True)
def pool(
    address, sign, origin, starts, source, output, keep_states, row_ranges, column_ranges, row_inputs, column_inputs, places
):  # type: ignore[no-untyped-def]
    frames = len(starts) - 1
    counts, maxima = np.empty(source, np.int32), np.empty(output, np.int32)
    kept = np.empty((frames if keep_states else 0, maxima.size), np.int32)
    spikes, found = np.empty((4, 1024), np.int32), 0
    ends = np.zeros(frames + 1, np.int64)
    most_seen = np.int64(0)
    for frame in range(frames):
        counts[:] = 0
        maxima[:] = 0
        for index in range(starts[frame], starts[frame + 1]):
            y, x, c = places[address[index], 0], places[address[index], 1], places[address[index], 2]
            counts[y, x, c] += sign[index]
            for oy in range(row_ranges[y, 0], row_ranges[y, 1]):
                for ox in range(column_ranges[x, 0], column_ranges[x, 1]):
                    # Only a count above the maximum raises it, and only one that was the maximum can lower it.
                    greatest = maxima[oy, ox, c]
                    if counts[y, x, c] > greatest:
                        greatest = counts[y, x, c]
                    elif sign[index] < 0 and counts[y, x, c] + 1 == greatest:
                        greatest = counts[y, x, c]
                        for iy in range(row_inputs[oy, 0], row_inputs[oy, 1]):
                            for ix in range(column_inputs[ox, 0], column_inputs[ox, 1]):
                                greatest = max(greatest, counts[iy, ix, c])
                    change = greatest - maxima[oy, ox, c]
                    if change != 0:
                        maxima[oy, ox, c] = greatest
                        most_seen = max(most_seen, abs(greatest))
                        if found == spikes.shape[1]:
                            spikes = _grown(spikes, 1)
                        spikes[0, found], spikes[1, found] = (oy * output[1] + ox) * output[2] + c, change
                        spikes[2, found], spikes[3, found] = index - starts[frame], origin[index]
                        found += 1
        ends[frame + 1] = found
        if keep_states:
            kept[frame] = maxima.reshape(-1)
    return spikes[:, :found], ends, kept, most_seen
