"""The readout's counters at their ends; the rest of it is tested with the machine."""

from dataclasses import replace

import pytest

from hw.pipeline.readout import Readout
from sim.generators.networks import random_network
from tests.hardware import simulate, sink, source

NETWORK = random_network(2)
MOST = (1 << NETWORK.output.count_bits) - 1


def answers(frames, *, clips, network=NETWORK, flushes=0):
    """Counts of output 1 and what the result says, for frames of so many spikes there, negative or not, and so many flushes."""
    readout, results = Readout(network=network, clips=clips), []
    tokens = []
    for count in frames:
        tokens += [{"kind": 0, "negative": int(count < 0), "y": 0, "x": 0, "c": 1}] * abs(count)
        tokens += [{"kind": 1, "negative": 1, "y": 0, "x": 0, "c": 0}] * flushes
        tokens.append({"kind": 1, "negative": 0, "y": 0, "x": 0, "c": 0})

    async def start(ctx):
        for _ in frames:
            ctx.set(readout.started, 1)
            await ctx.tick()
        ctx.set(readout.started, 0)

    simulate(readout, start, source(readout.spikes, tokens), sink(readout.result, results, len(frames), stall=0.5))
    assert all(int(count) == 0 for result in results for count in list(result.counts)[:1] + list(result.counts)[2:])
    return [(int(result.counts[1]), int(result.clipped)) if clips else int(result.counts[1]) for result in results]


def test_counts_stop_at_their_ends_and_the_result_says_so():
    frames = [MOST, MOST + 1, 3, -MOST - 1, -MOST - 2, -3, MOST + 40]
    assert answers(frames, clips=True) == [
        (MOST, 0), (MOST, 1), (3, 0), (-MOST - 1, 0), (-MOST - 1, 1), (-3, 0), (MOST, 1),
    ]


@pytest.mark.parametrize("clips", [False, True])
def test_flushes_within_a_frame_pass_without_effect(clips):
    network = replace(NETWORK, firing="deferred", flush_events=5)
    found = answers([3, -2, 0], clips=clips, network=network, flushes=3)
    assert found == ([(3, 0), (-2, 0), (0, 0)] if clips else [3, -2, 0])


def test_a_count_that_stopped_comes_back():
    """Spikes of the other sign count from the end."""
    readout, results = Readout(network=NETWORK, clips=True), []
    signs = [0] * (MOST + 5) + [1] * 2
    tokens = [{"kind": 0, "negative": sign, "y": 0, "x": 0, "c": 0} for sign in signs]
    tokens.append({"kind": 1, "negative": 0, "y": 0, "x": 0, "c": 0})

    async def start(ctx):
        ctx.set(readout.started, 1)
        await ctx.tick()
        ctx.set(readout.started, 0)

    simulate(readout, start, source(readout.spikes, tokens), sink(readout.result, results, 1))
    assert (int(results[0].counts[0]), int(results[0].clipped), int(results[0].answer)) == (MOST - 2, 1, 0)


@pytest.mark.parametrize("frames", [[MOST, -MOST, 5]])
def test_where_no_more_can_come_nothing_is_said(frames):
    assert answers(frames, clips=False) == frames
