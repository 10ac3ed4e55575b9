"""The compiled loops of the engine: encoder, neurons and max-pool, over the events of many frames."""

import numpy as np

from model.engine.vectors import LANES, accumulate, add, first_of, outside
from model.support.compiled import njit

__all__ = ["defer", "encode_frames", "in_turn", "integrate", "pool", "pool_deferred"]

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


_ROOM = 1024
"""Spikes that there is room for at first."""


@njit(cache=True, nogil=True)
def _grown(spikes, kept, needed, frame, frames):  # type: ignore[no-untyped-def]
    """The first ``kept`` spikes, with room for those that are needed up to ``frame``, and as many for each after it."""
    grown = np.empty((4, needed + needed // 4 + needed // (frame + 1) * (frames - frame)), np.int32)
    grown[:, :kept] = spikes[:, :kept]
    return grown


@njit(cache=True, nogil=True)
def _write(spikes, first, neuron, change, cause, origin):  # type: ignore[no-untyped-def]
    """Write the spikes of a changed count as far as there is room; where the next one comes.

    An array that is replaced in a loop is counted at each step of it: who runs out of room, goes on and begins again with more.
    """
    sign = 1 if change > 0 else -1
    # Unsigned, or the compiler allows for indices from the end.
    for spike in range(np.uint64(first), np.uint64(min(first + abs(change), spikes.shape[1]))):
        spikes[0, spike], spikes[1, spike] = neuron, sign
        spikes[2, spike], spikes[3, spike] = cause, origin
    return first + abs(change)


@njit(cache=True, nogil=True)
def _settle(total, count, theta, silent, lowest, highest, fewest, most, stops):  # type: ignore[no-untyped-def]
    """Saturate, compare and fire: the residual to store, the spike, and whether something was held back."""
    # Without branches: nobody can predict which neuron fires what.
    held = (total > highest) | (total < lowest)
    total = min(max(total, lowest), highest)
    up, down = total >= theta, (total <= -theta) & (count > silent)
    held |= (up & (count >= most) & (not stops)) | (down & (count <= fewest))
    fired = np.int64(up & (count < most)) - np.int64(down & (count > fewest))
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
    starts = events[3]
    first_residual, first_count, first_below = first_state
    frames, neurons = len(starts) - 1, len(first_count) - LANES
    residuals = np.empty((frames if keep_states else 0, neurons), np.int32)
    counts = np.empty((frames if keep_states else 0, neurons), np.int32)
    spikes, ends, flat = np.empty((4, _ROOM), np.int32), np.zeros(frames + 1, np.int64), weights.reshape(-1)
    # Of each frame: operations, saturated updates, saturated events.
    numbers = np.zeros((3, frames), np.int64)
    # The greatest magnitude of a count, the least and the greatest residual.
    extremes = np.zeros(3, np.int64)
    count, below = first_count.copy(), first_below.copy()
    frame = 0
    while frame < frames:
        # A copy is one move of memory; an assignment to a slice would be compiled to a loop.
        state = first_residual.copy(), count, below
        found = _integrate_frame(
            events, frame, state, flat, row_size, burst, limits, axes, spikes, ends[frame], numbers[:, frame], extremes
        )
        if found > spikes.shape[1]:
            spikes, count, below = _grown(spikes, ends[frame], found, frame, frames), first_count.copy(), first_below.copy()
            continue
        if keep_states:
            residuals[frame], counts[frame] = state[0][:neurons], count[:neurons]
        ends[frame + 1] = found
        _restore(count, below, first_state, spikes, ends[frame], found)
        frame += 1
    return spikes[:, : ends[frames]], ends, residuals, counts, numbers, extremes[0], extremes[1], extremes[2]


@njit(cache=True, nogil=True)
def _integrate_frame(  # type: ignore[no-untyped-def]
    events, frame, state, weights, row_size, burst, limits, axes, spikes, found, numbers, extremes
):
    """A frame of neurons that fire immediately; where the next spike comes."""
    address, sign, origin, starts = events
    residual, count, below = state
    f, relu, lowest, highest, fewest, most, stops = limits
    places, taps, runs = axes
    # A neuron whose count is not above this never fires -1, nor is it held from doing so.
    theta, silent, kind = 1 << f, 0 if relu else fewest - 1, residual.dtype.type
    # A neuron below its own limit fires -1 or saturates; one above the common limit fires +1 or is held from it.
    above, block_bits = kind(theta - 1), (np.uint64(1) << np.uint64(LANES)) - np.uint64(1)
    operations = saturated_updates = saturated_events = 0
    most_seen, least_seen, greatest_seen = extremes
    for index in range(starts[frame], starts[frame + 1]):
        # Unsigned, or the compiler allows for indices from the end.
        place = np.uint64(address[index])
        neuron, weight = places[place, 0], places[place, 1]
        y, x = np.uint64(places[place, 2]), np.uint64(places[place, 3])
        operations += places[place, 5]
        times, saturated = kind(sign[np.uint64(index)]), 0
        for row in range(np.uint64(places[place, 4])):
            for run in range(np.uint64(runs.shape[1])):
                start, size = neuron + runs[x, run, 0], runs[x, run, 1]
                first = weight + taps[y, row] + runs[x, run, 2]
                for block in range(0, size, LANES):
                    # One that is the least so far is looked at too.
                    bits = add(residual, start + block, weights, first + block, times, below, kind(least_seen), above)
                    bits &= block_bits >> np.uint64(max(LANES - (size - block), 0))
                    while bits:
                        n = np.uint64(start + block + np.int64(first_of(bits)))
                        bits &= bits - np.uint64(1)
                        total, fires = np.int64(residual[n]), np.int64(count[n])
                        # Compiled for None and for bursts apart: Algorithm 1 as printed pays nothing for the other.
                        if burst is None:
                            total, fired, held = _settle(total, fires, theta, silent, lowest, highest, fewest, most, stops)
                        else:
                            total, fired, held = _settle_burst(total, fires, f, silent, limits, burst)
                        residual[n] = total
                        least_seen, greatest_seen = min(least_seen, total), max(greatest_seen, total)
                        saturated += held
                        if fired != 0:
                            fires += fired
                            count[n], below[n] = fires, 1 - theta if fires > silent else lowest
                            most_seen = max(most_seen, abs(fires))
                            found = _write(spikes, found, n, fired, index - starts[frame], origin[np.uint64(index)])
            neuron += row_size
        saturated_updates += saturated
        saturated_events += saturated > 0
    numbers[0], numbers[1], numbers[2] = operations, saturated_updates, saturated_events
    extremes[0], extremes[1], extremes[2] = most_seen, least_seen, greatest_seen
    return found


@njit(cache=True, nogil=True)
def _restore(count, below, first_state, spikes, first, end):  # type: ignore[no-untyped-def]
    """What neurons start a frame with, of those that fired."""
    _, first_count, first_below = first_state
    for spike in range(first, end):
        n = np.uint64(spikes[0, spike])
        count[n], below[n] = first_count[n], first_below[n]


@njit(cache=True, nogil=True)
def _sum_up(events, first, end, residual, weights, row_size, axes):  # type: ignore[no-untyped-def]
    """Add what events bring to residuals, which wrap; how many additions those were."""
    address, sign, _, _ = events
    places, taps, runs = axes
    kind, operations, index = residual.dtype.type, 0, np.uint64(first)
    while index < np.uint64(end):
        place, change, spikes = np.uint64(address[index]), 0, 0
        # Spikes of one neuron at one flush follow each other.
        while index < np.uint64(end) and np.uint64(address[index]) == place:
            change, spikes, index = change + sign[index], spikes + 1, index + np.uint64(1)
        neuron, weight = places[place, 0], places[place, 1]
        y, x = np.uint64(places[place, 2]), np.uint64(places[place, 3])
        operations += spikes * places[place, 5]
        times = kind(change)
        for row in range(np.uint64(places[place, 4])):
            for run in range(np.uint64(runs.shape[1])):
                start, drive = neuron + runs[x, run, 0], weight + taps[y, row] + runs[x, run, 2]
                for block in range(0, runs[x, run, 1], LANES):
                    accumulate(residual, start + block, weights, drive + block, times)
            neuron += row_size
    return operations


@njit(cache=True, nogil=True)
def defer(events, flushes, first_state, weights, row_size, limits, keep_states, axes):  # type: ignore[no-untyped-def]
    """Neurons that fire deferred. ``flush_after`` are places among all frames' events; returns those among the spikes too."""
    starts = events[3]
    flush_after, flush_origin, flush_starts = flushes
    first_residual, first_count, first_below = first_state
    frames, neurons = len(starts) - 1, len(first_count) - LANES
    residuals = np.empty((frames if keep_states else 0, neurons), np.int32)
    counts = np.empty((frames if keep_states else 0, neurons), np.int32)
    spikes, ends = np.empty((4, _ROOM), np.int32), np.zeros(frames + 1, np.int64)
    passed, flat = np.zeros(len(flush_after), np.int64), weights.reshape(-1)
    numbers, extremes = np.zeros((3, frames), np.int64), np.zeros(3, np.int64)
    count, below = first_count.copy(), first_below.copy()
    frame = 0
    while frame < frames:
        state = first_residual.copy(), count, below
        found, first = ends[frame], starts[frame]
        numbers[:, frame] = 0
        for number in range(flush_starts[frame], flush_starts[frame + 1]):
            after = flush_after[number]
            numbers[0, frame] += _sum_up(events, first, after, state[0], flat, row_size, axes)
            origins = after - starts[frame] - 1, flush_origin[number]
            found, saturated = _flush(state, neurons, limits, spikes, found, origins, extremes)
            numbers[1, frame] += saturated
            numbers[2, frame] += saturated > 0
            passed[number], first = found, after
        if found > spikes.shape[1]:
            spikes, count, below = _grown(spikes, ends[frame], found, frame, frames), first_count.copy(), first_below.copy()
            continue
        if keep_states:
            residuals[frame], counts[frame] = state[0][:neurons], count[:neurons]
        ends[frame + 1] = found
        _restore(count, below, first_state, spikes, ends[frame], found)
        frame += 1
    return spikes[:, : ends[frames]], ends, passed, residuals, counts, numbers, extremes[0], extremes[1], extremes[2]


@njit(cache=True, nogil=True)
def _flush(state, neurons, limits, spikes, found, origins, extremes):  # type: ignore[no-untyped-def]
    """All neurons fire; where the next spike comes, and how many neurons did not fit."""
    residual, count, below = state
    f, relu, lowest, highest, fewest, most, stops, even = limits
    cause, origin = origins
    kind, silent, negative = residual.dtype.type, 0 if relu else fewest - 1, 1 if even else 0
    most_seen, least_seen, greatest_seen = extremes
    # A bit more than is stored.
    half = np.int64(2) * highest + 2
    saturated = 0
    for block in range(0, neurons, LANES):
        # All but those that do not fire, fit, and are no extreme.
        bits = outside(residual, block, below, kind(least_seen), kind(min(greatest_seen, (1 << f) - 1)))
        while bits:
            n = np.uint64(block + np.int64(first_of(bits)))
            bits &= bits - np.uint64(1)
            total = ((np.int64(residual[n]) + half) & (2 * half - 1)) - half
            least_seen, greatest_seen = min(least_seen, total), max(greatest_seen, total)
            wanted, before = total >> f, np.int64(count[n])
            if even and wanted << f == total and (wanted + before) & 1:
                wanted -= 1
            if relu:
                wanted = max(wanted, -before)
            if stops:
                wanted = min(wanted, most - before)
            fired = min(max(wanted, fewest - before), most - before)
            saturated += total < lowest or total > highest or fired != wanted
            residual[n] = total - (fired << f)
            if fired != 0:
                count[n] = before + fired
                below[n] = negative if before + fired > silent else lowest
                most_seen = max(most_seen, abs(before + fired))
                found = _write(spikes, found, n, fired, cause, origin)
    extremes[0], extremes[1], extremes[2] = most_seen, least_seen, greatest_seen
    return found, saturated


@njit(cache=True, nogil=True)
def pool(events, first_state, output, keep_states, axes):  # type: ignore[no-untyped-def]
    address, _, _, starts = events
    first_counts, first_maxima = first_state[0].reshape(-1), first_state[1].reshape(-1)
    frames = len(starts) - 1
    kept = np.empty((frames if keep_states else 0, first_maxima.size), np.int32)
    spikes, ends = np.empty((4, _ROOM), np.int32), np.zeros(frames + 1, np.int64)
    most_seen = np.zeros(1, np.int64)
    shapes, counts, maxima = (first_state[0].shape, output), first_counts.copy(), first_maxima.copy()
    frame = 0
    while frame < frames:
        found = _pool_frame(events, frame, counts, maxima, shapes, axes, spikes, ends[frame], most_seen)
        if found > spikes.shape[1]:
            spikes, counts, maxima = _grown(spikes, ends[frame], found, frame, frames), first_counts.copy(), first_maxima.copy()
            continue
        if keep_states:
            kept[frame] = maxima
        ends[frame + 1] = found
        _restore_pool(counts, address[starts[frame] : starts[frame + 1]], first_counts)
        _restore_pool(maxima, spikes[0, ends[frame] : found], first_maxima)
        frame += 1
    return spikes[:, : ends[frames]], ends, kept, most_seen[0]


@njit(cache=True, nogil=True)
def _restore_pool(values, changed, first):  # type: ignore[no-untyped-def]
    for place in changed:
        values[np.uint64(place)] = first[np.uint64(place)]


@njit(cache=True, nogil=True)
def _pool_frame(events, frame, counts, maxima, shapes, axes, spikes, found, most_seen):  # type: ignore[no-untyped-def]
    address, sign, origin, starts = events
    row_ranges, column_ranges, row_inputs, column_inputs, places = axes
    (_, width, channels), most, room = shapes[1], most_seen[0], np.int64(spikes.shape[1])
    row_size = shapes[0][1] * channels
    for index in range(starts[frame], starts[frame + 1]):
        place = np.uint64(address[index])
        y, x, c = np.uint64(places[place, 0]), np.uint64(places[place, 1]), np.int64(places[place, 2])
        counts[place] += sign[index]
        value = counts[place]
        for oy in range(row_ranges[y, 0], row_ranges[y, 1]):
            for ox in range(column_ranges[x, 0], column_ranges[x, 1]):
                row, column, window = np.uint64(oy), np.uint64(ox), np.uint64((oy * width + ox) * channels + c)
                top, bottom = row_inputs[row, 0], row_inputs[row, 1]
                left, right = column_inputs[column, 0], column_inputs[column, 1]
                before = maxima[window]
                greatest = value
                # Only a count that was the maximum can lower it; of a small window the maximum is found sooner than that.
                if (bottom - top) * (right - left) <= 16 or value < before == value + 1:
                    for iy in range(top, bottom):
                        for ix in range(left, right):
                            greatest = max(greatest, counts[np.uint64(iy * row_size + ix * channels + c)])
                else:
                    greatest = max(value, before)
                maxima[window] = greatest
                most = max(most, abs(greatest) if greatest != before else 0)
                # Written even where it does not change, which nobody can predict.
                if found < room:
                    spike = np.uint64(found)
                    spikes[0, spike], spikes[1, spike] = window, greatest - before
                    spikes[2, spike], spikes[3, spike] = index - starts[frame], origin[index]
                found += greatest != before
    most_seen[0] = most
    return found


@njit(cache=True, nogil=True)
def _greatest(counts, shape, axes, oy, ox, c):  # type: ignore[no-untyped-def]
    """The greatest count in a window."""
    _, _, row_inputs, column_inputs, _ = axes
    _, width, channels = shape
    greatest = counts[np.uint64((row_inputs[oy, 0] * width + column_inputs[ox, 0]) * channels + c)]
    for iy in range(row_inputs[oy, 0], row_inputs[oy, 1]):
        for ix in range(column_inputs[ox, 0], column_inputs[ox, 1]):
            greatest = max(greatest, counts[np.uint64((iy * width + ix) * channels + c)])
    return greatest


@njit(cache=True, nogil=True)
def pool_deferred(events, flushes, first_state, output, keep_states, axes):  # type: ignore[no-untyped-def]
    """A max-pool in a network that fires deferred; flushes as in `defer`."""
    address, _, _, starts = events
    flush_after, flush_origin, flush_starts = flushes
    first_counts, first_maxima = first_state[0].reshape(-1), first_state[1].reshape(-1)
    frames = len(starts) - 1
    kept = np.empty((frames if keep_states else 0, first_maxima.size), np.int32)
    spikes, ends = np.empty((4, _ROOM), np.int32), np.zeros(frames + 1, np.int64)
    passed = np.zeros(len(flush_after), np.int64)
    most_seen = np.zeros(1, np.int64)
    shapes, counts, maxima = (first_state[0].shape, output), first_counts.copy(), first_maxima.copy()
    # A bit for each window that a count changed in.
    touched = np.zeros((len(maxima) + 63) // 64, np.uint64)
    frame = 0
    while frame < frames:
        found, first = ends[frame], starts[frame]
        for number in range(flush_starts[frame], flush_starts[frame + 1]):
            after = flush_after[number]
            _take_counts(events, first, after, counts, output, axes, touched)
            origins = after - starts[frame] - 1, flush_origin[number]
            found = _flush_pool(counts, maxima, shapes, axes, touched, spikes, found, origins, most_seen)
            passed[number], first = found, after
        if found > spikes.shape[1]:
            spikes, counts, maxima = _grown(spikes, ends[frame], found, frame, frames), first_counts.copy(), first_maxima.copy()
            continue
        if keep_states:
            kept[frame] = maxima
        ends[frame + 1] = found
        _restore_pool(counts, address[starts[frame] : starts[frame + 1]], first_counts)
        _restore_pool(maxima, spikes[0, ends[frame] : found], first_maxima)
        frame += 1
    return spikes[:, : ends[frames]], ends, passed, kept, most_seen[0]


@njit(cache=True, nogil=True)
def _take_counts(events, first, end, counts, output, axes, touched):  # type: ignore[no-untyped-def]
    """Count events, and mark the windows that they are in."""
    address, sign, _, _ = events
    row_ranges, column_ranges, _, _, places = axes
    for index in range(first, end):
        place = np.uint64(address[index])
        y, x, c = places[place, 0], places[place, 1], places[place, 2]
        counts[place] += sign[index]
        for oy in range(row_ranges[y, 0], row_ranges[y, 1]):
            for ox in range(column_ranges[x, 0], column_ranges[x, 1]):
                window = np.uint64((oy * output[1] + ox) * output[2] + c)
                touched[window >> np.uint64(6)] |= np.uint64(1) << (window & np.uint64(63))


@njit(cache=True, nogil=True)
def _flush_pool(counts, maxima, shapes, axes, touched, spikes, found, origins, most_seen):  # type: ignore[no-untyped-def]
    """All windows that are marked fire; where the next spike comes."""
    (_, width, channels), (cause, origin) = shapes[1], origins
    most = most_seen[0]
    for word in range(len(touched)):
        bits = touched[word]
        touched[word] = 0
        while bits:
            window = 64 * word + np.int64(first_of(bits))
            bits &= bits - np.uint64(1)
            position, c = divmod(window, channels)
            oy, ox = divmod(position, width)
            greatest = _greatest(counts, shapes[0], axes, oy, ox, c)
            change = greatest - maxima[window]
            if change != 0:
                maxima[window] = greatest
                most = max(most, abs(greatest))
                found = _write(spikes, found, window, change, cause, origin)
    most_seen[0] = most
    return found


@njit(cache=True, nogil=True)
def in_turn(after):  # type: ignore[no-untyped-def]
    """The order of several inputs' events, which are numbered one input behind the other: at each flush the first input's first.

    Parameters
    ----------
    after
        Of each input and flush the events of the input before it; after the last there are none.
    """
    order, found = np.empty(after[:, -1].sum(), np.int64), 0
    for flush in range(after.shape[1]):
        base = 0
        for number in range(len(after)):
            for index in range(after[number, flush - 1] if flush else 0, after[number, flush]):
                order[found] = base + index
                found += 1
            base += after[number, -1]
    return order
