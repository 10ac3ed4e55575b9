"""Max-pooling on groups against the golden model, and its lane against counts."""

import itertools
import random

import numpy as np
import pytest

from hw.pipeline.groups import EventGrouper
from hw.pipeline.pool import BurstPoolLane, DeferredPoolLane, MaxPoolGroups, PoolLane
from hw.pipeline.serializer import Serializer
from model.events import input_flushes
from model.golden import run_layer
from model.machine.plan import CorePlan
from model.network import MaxPool, Padding, Shape
from sim.generators.frames import random_frames
from tests.hardware import END, event_tokens, frames_of_events, frames_of_groups, pairs, simulate, sink, source


def nonzero(distances):
    return sum((distance != 0) << n for n, distance in enumerate(distances))


def test_lane_tracks_the_maximum_of_all_small_windows():
    lane = PoolLane(members=3, distance_bits=2)

    async def testbench(ctx):
        for counts in itertools.product(range(4), repeat=3):
            for member, sign, present in itertools.product(range(3), (1, -1), (7, 3, 5, 6)):
                if not present >> member & 1:
                    continue
                inside = [n for n in range(3) if present >> n & 1]
                most = max(counts[n] for n in inside)
                after = list(counts)
                after[member] += sign
                if not 0 <= after[member] < 4:
                    continue
                now = max(after[n] for n in inside)
                distances = [most - counts[n] if n in inside else 0 for n in range(3)]
                ctx.set(lane.state, {"distance": distances, "apart": nonzero(distances)})
                ctx.set(lane.rises, (sign > 0) << member)
                ctx.set(lane.falls, (sign < 0) << member)
                ctx.set(lane.present, present)
                assert ctx.get(lane.up) - ctx.get(lane.down) == now - most
                found = ctx.get(lane.update)
                distances = [now - after[n] if n in inside else 0 for n in range(3)]
                assert [int(distance) for distance in found.distance] == distances
                assert found.apart == nonzero(distances)

    simulate(lane, testbench)


def plan(channels):
    return CorePlan(layer="p", channels=channels, group_fifo=8, generation_bits=2)


def group_tokens(shape, core, frames, bursts=False, singly=False):
    """Spikes as groups, sometimes several channels of a position at once, unless they come ``singly``; with ``bursts`` several
    spikes of a channel."""
    tokens, chance = [], random.Random(1)
    for events in frames:
        for spikes, event in runs(events) if bursts else ((1, event) for event in events):
            y, x, c = shape.coordinates(event["address"])
            firsts = core.firsts(shape.channels)
            part = max(n for n, first in enumerate(firsts) if first <= c)
            bit = c - firsts[part]
            group = {"kind": 0, "y": y, "x": x, "part": part, "plus": 0, "minus": 0}
            group["plus" if event["sign"] > 0 else "minus"] = 1 << bit
            if bursts:
                group["more"] = [(spikes - 1) * (n == bit) for n in range(core.group_channels)]
            last = tokens[-1] if tokens else END
            same = all(last.get(k) == group[k] for k in ("kind", "y", "x", "part"))
            if same and (last["plus"] | last["minus"]) < 1 << bit and chance.random() < 0.8 and not singly:
                last["plus"] |= group["plus"]
                last["minus"] |= group["minus"]
                if bursts:
                    last["more"][bit] = spikes - 1
            else:
                tokens.append(group)
        tokens.append({**END, "y": 0, "x": 0, "part": 0, "plus": 0, "minus": 0})
    return tokens


def runs(events):
    """Spikes of one neuron and one sign that follow each other, as how many and the first of them; of more than 8 it is two."""
    found = []
    for event in events:
        same = found and all(found[-1][1][name] == event[name] for name in ("address", "sign"))
        if same and found[-1][0] < 8:
            found[-1][0] += 1
        else:
            found.append([1, event])
    return found


@pytest.mark.parametrize(
    ("window", "stride", "padding", "channels"),
    [
        ((2, 2), (2, 2), Padding(), 4),
        ((3, 3), (3, 3), Padding(1, 1, 1, 1), 3),
        ((1, 2), (2, 3), Padding(), 1),
        ((2, 3), (2, 3), Padding(0, 1, 0, 1), 2),
        # Windows that overlap: in both axes, with a row beyond the last of them, and in one.
        ((3, 3), (2, 2), Padding(1, 1, 1, 0), 4),
        ((3, 2), (1, 2), Padding(), 1),
    ],
)
@pytest.mark.parametrize(("idle", "stall"), [(0, 0), (0.3, 0.4)])
@pytest.mark.parametrize("deferred", [False, True])
def test_equal_to_the_golden_model(window, stride, padding, channels, idle, stall, deferred):
    shape = Shape(7, 6, 4)
    layer = MaxPool(name="p", source="input", window=window, stride=stride, padding=padding)
    frames = random_frames(shape, 3, frames=8 if layer.overlapping else 20, events=60, near=True)
    # Counts of a ReLU layer are never negative: a negative spike needs a positive one before.
    kept = []
    for events in frames:
        counts = np.zeros(shape.size, int)
        signs = events["sign"].copy()
        for n, event in enumerate(events):
            if counts[event["address"]] == 0:
                signs[n] = 1
            counts[event["address"]] += signs[n]
        events["sign"] = signs
        kept.append(events)
    flushes = [input_flushes(events, 0) if deferred else None for events in kept]
    expected = [
        run_layer(layer, shape, events, flushes=flush).spikes for events, flush in zip(kept, flushes, strict=True)
    ]
    assert deferred or any((spikes["sign"] < 0).any() for spikes in expected)
    core = plan(channels)
    # Wide enough for all that fires here.
    more = 3 if deferred else 0
    assert not deferred or 1 < max(int(np.bincount(spikes["address"]).max(initial=0)) for spikes in expected) <= 8
    pool = MaxPoolGroups(layer=layer, shape=shape, core=core, count_bits=8, deferred=deferred, more_bits=more)
    found = []

    async def take(ctx):
        chance, ends = random.Random(2), 0
        while ends < len(kept):
            ctx.set(pool.pooled.ready, chance.random() >= stall)
            _, _, valid, ready, payload = await ctx.tick().sample(pool.pooled.valid, pool.pooled.ready, pool.pooled.payload)
            if valid and ready:
                found.append(payload)
                ends += payload.kind.value

    tokens = group_tokens(shape, core, kept, singly=layer.overlapping and not deferred)
    simulate(pool, source(pool.groups, tokens, idle=idle), take)
    assert frames_of_groups(layer.output_shape(shape), core, found) == [pairs(spikes) for spikes in expected]


@pytest.mark.parametrize(
    ("window", "padding", "channels"), [((2, 2), Padding(), 4), ((3, 3), Padding(1, 1, 1, 1), 3), ((1, 2), Padding(), 1)]
)
@pytest.mark.parametrize(("idle", "stall"), [(0, 0), (0.3, 0.4)])
def test_bursts_are_pooled_as_their_spikes_one_after_the_other(window, padding, channels, idle, stall):
    shape = Shape(7, 6, 4)
    layer = MaxPool(name="p", source="input", window=window, stride=window, padding=padding)
    chance, frames = random.Random(3), []
    for events in random_frames(shape, 3, frames=12, events=40, near=True):
        counts, spikes = np.zeros(shape.size, int), []
        for event in events:
            # Of either sign, and never below 0; a frame may come without any.
            most = 8 if chance.random() < 0.6 else -int(min(8, counts[event["address"]]))
            burst = chance.randint(*sorted((most // abs(most), most))) if most else 0
            counts[event["address"]] += burst
            spikes += [(event["address"], 1 if burst > 0 else -1, 0, 0)] * abs(burst)
        frames.append(np.array(spikes, dtype=events.dtype))
    expected = [run_layer(layer, shape, events).spikes for events in frames]
    core = plan(channels)
    pool = MaxPoolGroups(layer=layer, shape=shape, core=core, count_bits=8, source_more_bits=3, more_bits=3)
    found = []

    async def take(ctx):
        chance, ends = random.Random(2), 0
        while ends < len(frames):
            ctx.set(pool.pooled.ready, chance.random() >= stall)
            _, _, valid, ready, payload = await ctx.tick().sample(pool.pooled.valid, pool.pooled.ready, pool.pooled.payload)
            if valid and ready:
                found.append(payload)
                ends += payload.kind.value

    simulate(pool, source(pool.groups, group_tokens(shape, core, frames, bursts=True), idle=idle), take)
    assert frames_of_groups(layer.output_shape(shape), core, found) == [pairs(spikes) for spikes in expected]
    more = [(int(of), sign) for group in found for of, sign in zip(group.more, f"{group.minus:0{channels}b}"[::-1], strict=True)]
    assert {(0, "0"), (7, "0"), (2, "1")} <= set(more)


def test_burst_lane_tells_how_the_maximum_moves():
    lane = BurstPoolLane(members=3, count_bits=2)

    async def testbench(ctx):
        for changes in itertools.product(range(-3, 3), repeat=3):
            for present, member, spikes in itertools.product((7, 3, 5, 6), range(3), (-2, -1, 1, 2)):
                if not -4 <= changes[member] + spikes < 4:
                    continue
                ctx.set(lane.state, {"change": list(changes)})
                ctx.set(lane.present, present)
                ctx.set(lane.member, 1 << member)
                ctx.set(lane.spikes, spikes)
                after = [change + spikes * (n == member) for n, change in enumerate(changes)]
                assert [int(change) for change in ctx.get(lane.update).change] == after
                await ctx.tick()
                before = max(change for n, change in enumerate(changes) if present >> n & 1)
                assert ctx.get(lane.greatest) == before
                assert ctx.get(lane.follows) == max(change for n, change in enumerate(after) if present >> n & 1)

    simulate(lane, testbench)


def test_deferred_lane_counts_and_finds_the_greatest_of_all_small_windows():
    lane = DeferredPoolLane(members=3, count_bits=2)

    async def testbench(ctx):
        for changes in itertools.product(range(-4, 4), repeat=3):
            for present in range(1, 8):
                ctx.set(lane.state, {"change": list(changes)})
                ctx.set(lane.present, present)
                await ctx.tick()
                assert ctx.get(lane.greatest) == max(change for n, change in enumerate(changes) if present >> n & 1)
            for member, spikes in itertools.product(range(3), range(-3, 4)):
                if -4 <= changes[member] + spikes < 4:
                    ctx.set(lane.member, 1 << member)
                    ctx.set(lane.spikes, spikes)
                    found = [int(change) for change in ctx.get(lane.update).change]
                    assert found == [change + spikes * (n == member) for n, change in enumerate(changes)]

    simulate(lane, testbench)


def test_a_flush_within_a_frame_tells_counts_from_the_new_maximum():
    lane = DeferredPoolLane(members=3, count_bits=2, goes_on=True)

    async def testbench(ctx):
        for changes in itertools.product(range(-4, 4), repeat=3):
            for present in (7, 3, 5, 2):
                greatest = max(change for n, change in enumerate(changes) if present >> n & 1)
                ctx.set(lane.state, {"change": list(changes)})
                ctx.set(lane.present, present)
                ctx.set(lane.flush, 1)
                found = [int(change) for change in ctx.get(lane.update).change]
                kept = [n for n in range(3) if present >> n & 1 and changes[n] - greatest >= -4]
                assert [found[n] for n in kept] == [changes[n] - greatest for n in kept]
                ctx.set(lane.flush, 0)
                assert [int(change) for change in ctx.get(lane.update).change] == list(changes)

    simulate(lane, testbench)


@pytest.mark.parametrize("stall", [0, 0.5])
@pytest.mark.parametrize(("channels", "block"), [(7, 3), (40, 40), (70, 35)])
def test_serializer_sends_every_spike_in_channel_order(stall, channels, block):
    shape = Shape(3, 3, channels)
    core = plan(block)
    serializer, found = Serializer(shape=shape, core=core), []
    frames = random_frames(shape, 1, frames=5)
    groups = group_tokens(shape, core, frames)
    count = sum(len(frame) + 1 for frame in frames)
    simulate(serializer, source(serializer.groups, groups), sink(serializer.events, found, count, stall=stall))
    assert frames_of_events(shape, found) == [pairs(frame) for frame in frames]


@pytest.mark.parametrize("stall", [0, 0.5])
def test_serializer_sends_the_spikes_of_a_channel_one_after_the_other(stall):
    shape, core, rng = Shape(2, 3, 7), plan(4), np.random.default_rng(4)
    groups, expected = [], [[]]
    for n in range(40):
        y, x, part = (int(rng.integers(0, size)) for size in (2, 3, 2))
        spikes = [int(k) for k in rng.integers(-8, 9, 4) * rng.integers(0, 2, 4)]
        if part:
            spikes[3] = 0
        groups.append(
            {
                "kind": 0, "y": y, "x": x, "part": part,
                "plus": sum((k > 0) << c for c, k in enumerate(spikes)),
                "minus": sum((k < 0) << c for c, k in enumerate(spikes)),
                "more": [max(0, abs(k) - 1) for k in spikes],
            }
        )  # fmt: skip
        if not any(spikes):
            groups.pop()
        for c, k in enumerate(spikes):
            expected[-1] += [(shape.address(y, x, 4 * part + c), 1 if k > 0 else -1)] * abs(k)
        if n % 10 == 9:
            groups.append({**END, "y": 0, "x": 0, "part": 0, "plus": 0, "minus": 0, "more": [0] * 4})
            expected.append([])
    serializer, found, gaps = Serializer(shape=shape, core=core, more_bits=3), [], []

    async def watch(ctx):
        async for _, _, valid in ctx.tick().sample(serializer.events.valid):
            gaps.append(valid)

    count = sum(map(len, expected)) + 4
    simulate(
        serializer, source(serializer.groups, groups), sink(serializer.events, found, count, stall=stall), background=[watch]
    )
    assert frames_of_events(shape, found) == expected[:-1]
    if not stall:
        # A spike a cycle, from the first to the last.
        assert gaps[:2] == [0, 1] and sum(gaps[: count + 1]) == count


@pytest.mark.parametrize("channels", [5, 37])
def test_grouper_makes_each_event_a_group(channels):
    shape = Shape(3, 2, channels)
    core = plan(channels)
    grouper, found = EventGrouper(shape=shape, core=core), []
    frames = random_frames(shape, 2, frames=2)

    async def testbench(ctx):
        ctx.set(grouper.groups.ready, 1)
        for token in event_tokens(shape, frames):
            ctx.set(grouper.events.payload, token)
            ctx.set(grouper.events.valid, 1)
            assert ctx.get(grouper.groups.valid)
            found.append(ctx.get(grouper.groups.payload))

    simulate(grouper, testbench)
    assert frames_of_groups(shape, core, found) == [pairs(frame) for frame in frames]
