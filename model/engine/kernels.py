"""The compiled loops of the engine: encoder, neurons and max-pool, over the events of many frames."""

import numpy as np

from model.engine.tables import LANES
from model.support.compiled import njit

__all__ = ["defer", "encode_frames", "integrate", "pool", "pool_deferred"]

@njit(cache=True, nogil=True)
def encode_frames(frames, first, step, levels):  # type: ignore[no-untyped-def]
    """As `model.encode.encode`, of frames ``(frames, pixels)``: addresses, and where each frame starts."""
    addresses, starts = np.empty(frames.size, np.int32), np.zeros(len(frames) + 1, np.int64)
    ends, found = np.empty(256, np.int64), 0
    for frame in range(len(frames)):
        # Counting sort: of each distance past a limit, where its spikes go.
        ends[:] = 0
        for pixel in frames[frame]:
            past = np.int64(pixel) - first
            for _ in range(levels):
                if past <= 0:
                    break
                ends[past] += 1
                past -= step
        total = 0
        for past in range(255, 0, -1):
            total, ends[past] = total + ends[past], total
        if found + total > len(addresses):
            more = np.empty(2 * len(addresses) + total, np.int32)
            more[:found] = addresses[:found]
            addresses = more
        for address in range(frames.shape[1]):
            past = np.int64(frames[frame, address]) - first
            for _ in range(levels):
                if past <= 0:
                    break
                addresses[found + ends[past]] = address
                ends[past] += 1
                past -= step
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
def _changed(spikes, found, neuron, change, cause, origin):  # type: ignore[no-untyped-def]
    """``spikes`` with those of a changed count, and how many there are now."""
    if found + abs(change) > spikes.shape[1]:
        spikes = _grown(spikes, abs(change))
    one = 1 if change > 0 else -1
    for _ in range(abs(change)):
        spikes[0, found], spikes[1, found] = neuron, one
        spikes[2, found], spikes[3, found] = cause, origin
        found += 1
    return spikes, found


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
def _settle(total, count, theta, silent, lowest, highest, fewest, most, stops):  # type: ignore[no-untyped-def]
    """Saturate, compare and fire: the residual to store, the spike, and whether something was held back."""
    held = total > highest or total < lowest
    total = min(max(total, lowest), highest)
    fired = 0
    if total >= theta:
        fired = 1 if count < most else 0
        held |= fired == 0 and not stops
    elif total <= -theta and count > silent:
        fired = -1 if count > fewest else 0
        held |= fired == 0
    return total - fired * theta, fired, held


@njit(cache=True, nogil=True)
def _settle_burst(total, count, f, silent, limits, burst):  # type: ignore[no-untyped-def]
    """As `_settle`, with up to ``burst`` spikes (0: any number), their sign on them."""
    _, _, lowest, highest, fewest, most, stops = limits
    held = total > highest or total < lowest
    total = min(max(total, lowest), highest)
    wanted = total >> f if total >= 0 else -(-total >> f)
    if silent == 0:
        wanted = max(wanted, -count)
    if stops:
        wanted = min(wanted, most - count)
    if burst > 0:
        wanted = min(max(wanted, -burst), burst)
    fired = min(max(wanted, fewest - count), most - count)
    return total - (fired << f), fired, held or fired != wanted


@njit(cache=True, nogil=True)
def integrate(events, first_state, weights, row_size, burst, limits, keep_states, axes):  # type: ignore[no-untyped-def]
    address, sign, origin, starts = events
    first_residual, first_count, first_below = first_state
    f, relu, lowest, highest, fewest, most, stops = limits
    places, row_ranges, row_taps, runs = axes
    frames, neurons, theta = len(starts) - 1, len(first_count), 1 << f
    # A neuron whose count is not above this never fires -1, nor is it held from doing so.
    silent = 0 if relu else fewest - 1
    # A neuron below its own limit fires -1 or saturates; one above the common limit fires +1 or is held from it.
    kind = first_residual.dtype.type
    above = kind(theta - 1)
    residuals = np.empty((frames if keep_states else 0, neurons), np.int32)
    counts = np.empty((frames if keep_states else 0, neurons), np.int32)
    spikes, found = np.empty((4, 1024), np.int32), 0
    ends = np.zeros(frames + 1, np.int64)
    # Of each frame: operations, saturated updates, saturated events.
    numbers = np.zeros((3, frames), np.int64)
    most_seen = least_seen = greatest_seen = np.int64(0)
    taps, inputs, longest = weights.shape[1:]
    # Of a run, who may fire or saturate: a sign bit per neuron, several in a word.
    words_per_block = LANES * first_residual.itemsize // 8
    flags = np.zeros(longest, first_residual.dtype)
    words = flags.view(np.uint64)
    signs = np.uint64(0x8000800080008000 if first_residual.itemsize == 2 else 0x8000000080000000)
    flat = weights.reshape(-1)
    for frame in range(frames):
        # Copies, which are one move of memory each; an assignment to a slice would be compiled to a loop.
        residual, count, below = first_residual.copy(), first_count.copy(), first_below.copy()
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
                            # Compiled for None and for bursts apart: Algorithm 1 as printed pays nothing for the other.
                            if burst is None:
                                total, fired, held = _settle(
                                    total, count[n], theta, silent, lowest, highest, fewest, most, stops
                                )
                            else:
                                total, fired, held = _settle_burst(total, count[n], f, silent, limits, burst)
                                # One is written below.
                                if abs(fired) > 1:
                                    one = 1 if fired > 0 else -1
                                    cause = index - starts[frame]
                                    spikes, found = _changed(spikes, found, n, fired - one, cause, origin[index])
                                    count[n], fired = count[n] + fired - one, one
                                    if found + size > spikes.shape[1]:
                                        spikes = _grown(spikes, size)
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
def _accumulate(residual, weights, neuron, weight, blocks, flip):  # type: ignore[no-untyped-def]
    """As `_add`, and no more than that: residuals wrap."""
    kind = residual.dtype.type
    neuron, weight = np.uint64(neuron), np.uint64(weight)
    for n in range(np.uint64(blocks * LANES)):
        residual[neuron + n] = kind(residual[neuron + n] + kind(kind(weights[weight + n] ^ flip) - flip))


@njit(cache=True, nogil=True)
def defer(events, flushes, first_state, weights, row_size, limits, keep_states, axes):  # type: ignore[no-untyped-def]
    """Neurons that fire deferred. ``flush_after`` are places among all frames' events; returns those among the spikes too."""
    address, sign, _, starts = events
    flush_after, flush_origin, flush_starts = flushes
    first_residual, first_count, _ = first_state
    f, relu, lowest, highest, fewest, most, stops, even = limits
    places, row_ranges, row_taps, runs = axes
    frames, neurons = len(starts) - 1, len(first_count)
    kind = first_residual.dtype.type
    residuals = np.empty((frames if keep_states else 0, neurons), np.int32)
    counts = np.empty((frames if keep_states else 0, neurons), np.int32)
    spikes, found = np.empty((4, 1024), np.int32), 0
    ends, passed = np.zeros(frames + 1, np.int64), np.zeros(len(flush_after), np.int64)
    numbers = np.zeros((3, frames), np.int64)
    most_seen = least_seen = greatest_seen = np.int64(0)
    taps, inputs, longest = weights.shape[1:]
    flat = weights.reshape(-1)
    # A bit more than is stored.
    half = np.int64(2) * highest + 2
    for frame in range(frames):
        residual, count = first_residual.copy(), first_count.copy()
        first = starts[frame]
        for number in range(flush_starts[frame], flush_starts[frame + 1]):
            for index in range(first, flush_after[number]):
                y, x = places[address[index], 0], places[address[index], 1]
                c, reached = places[address[index], 2], places[address[index], 3]
                flip = kind(0 if sign[index] > 0 else -1)
                for oy in range(row_ranges[y, 0], row_ranges[y, 1]):
                    tap = row_taps[y, oy - row_ranges[y, 0]]
                    for run in range(runs.shape[1]):
                        start = oy * row_size + runs[x, run, 0] + reached
                        size = runs[x, run, 1]
                        numbers[0, frame] += size
                        place = ((runs[x, run, 2] * taps + tap) * inputs + c) * longest
                        _accumulate(residual, flat, start, place, (size + LANES - 1) // LANES, flip)
            first = flush_after[number]
            saturated = 0
            for n in range(neurons):
                total = ((np.int64(residual[n]) + half) & (2 * half - 1)) - half
                least_seen, greatest_seen = min(least_seen, total), max(greatest_seen, total)
                wanted = total >> f
                if even and wanted << f == total and (wanted + count[n]) & 1:
                    wanted -= 1
                if relu:
                    wanted = max(wanted, -count[n])
                if stops:
                    wanted = min(wanted, most - count[n])
                fired = min(max(wanted, fewest - count[n]), most - count[n])
                saturated += total < lowest or total > highest or fired != wanted
                residual[n] = total - (fired << f)
                if fired != 0:
                    count[n] += fired
                    most_seen = max(most_seen, abs(count[n]))
                    spikes, found = _changed(spikes, found, n, fired, first - starts[frame] - 1, flush_origin[number])
            passed[number] = found
            numbers[1, frame] += saturated
            numbers[2, frame] += saturated > 0
        ends[frame + 1] = found
        if keep_states:
            residuals[frame], counts[frame] = residual[:neurons], count
    return spikes[:, :found], ends, passed, residuals, counts, numbers, most_seen, least_seen, greatest_seen


@njit(cache=True, nogil=True)
def pool(events, first_state, output, keep_states, axes):  # type: ignore[no-untyped-def]
    address, sign, origin, starts = events
    first_counts, first_maxima, _ = first_state
    row_ranges, column_ranges, row_inputs, column_inputs, places = axes
    frames = len(starts) - 1
    kept = np.empty((frames if keep_states else 0, first_maxima.size), np.int32)
    spikes, found = np.empty((4, 1024), np.int32), 0
    ends = np.zeros(frames + 1, np.int64)
    most_seen = np.int64(0)
    for frame in range(frames):
        counts, maxima = first_counts.copy(), first_maxima.copy()
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


@njit(cache=True, nogil=True)
def pool_deferred(events, flushes, first_state, output, keep_states, axes):  # type: ignore[no-untyped-def]
    """A max-pool in a network that fires deferred; flushes as in `defer`."""
    address, sign, _, starts = events
    flush_after, flush_origin, flush_starts = flushes
    first_counts, first_maxima, _ = first_state
    _, _, row_inputs, column_inputs, places = axes
    frames = len(starts) - 1
    kept = np.empty((frames if keep_states else 0, first_maxima.size), np.int32)
    spikes, found = np.empty((4, 1024), np.int32), 0
    ends, passed = np.zeros(frames + 1, np.int64), np.zeros(len(flush_after), np.int64)
    most_seen = np.int64(0)
    for frame in range(frames):
        counts, maxima = first_counts.copy(), first_maxima.copy()
        first = starts[frame]
        for number in range(flush_starts[frame], flush_starts[frame + 1]):
            for index in range(first, flush_after[number]):
                y, x, c = places[address[index], 0], places[address[index], 1], places[address[index], 2]
                counts[y, x, c] += sign[index]
            first = flush_after[number]
            cause = first - starts[frame] - 1
            for oy in range(output[0]):
                for ox in range(output[1]):
                    for c in range(output[2]):
                        greatest = counts[row_inputs[oy, 0], column_inputs[ox, 0], c]
                        for iy in range(row_inputs[oy, 0], row_inputs[oy, 1]):
                            for ix in range(column_inputs[ox, 0], column_inputs[ox, 1]):
                                greatest = max(greatest, counts[iy, ix, c])
                        change = greatest - maxima[oy, ox, c]
                        if change != 0:
                            maxima[oy, ox, c] = greatest
                            most_seen = max(most_seen, abs(greatest))
                            neuron = (oy * output[1] + ox) * output[2] + c
                            spikes, found = _changed(spikes, found, neuron, change, cause, flush_origin[number])
            passed[number] = found
        ends[frame + 1] = found
        if keep_states:
            kept[frame] = maxima.reshape(-1)
    return spikes[:, :found], ends, passed, kept, most_seen
