"""From groups to events: each spike of a group once, in ascending channel."""

from types import ModuleType

from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value

import hw.pipeline.serializer
from hw.aer import Kind
from model.machine.plan import CorePlan
from model.network import Shape
from sim.formal.bench import Bench
from sim.formal.properties import Fault, Property

__all__ = ["PROPERTIES"]


def serialized(bench: Bench, serializers: ModuleType, *, channels: int, more_bits: int, flushes: bool, levels: int) -> None:
    """A `Serializer`, beside one that keeps how many spikes of each channel are still to go."""
    m = bench.m
    shape, core = Shape(2, 3, 2 * channels), CorePlan(layer="fc", channels=channels)
    dut = serializers.Serializer(shape=shape, core=core, more_bits=more_bits, flushes=flushes, levels=levels)
    inside = bench.add("dut", dut)
    bench.source(dut.groups, "groups")
    bench.sink(dut.events, "events")
    given, event = dut.groups.payload, dut.events.payload
    count = dut.groups.payload.shape().channels
    # A group of spikes has some, each of one sign.
    fires = given.plus | given.minus
    bench.assume((given.plus & given.minus) == 0)
    bench.assume((given.kind == Kind.END) == (fires == 0))
    if more_bits:
        bench.assume(Cat(fires[n] | (given.more[n] == 0) for n in range(count)).all())

    takes, leaves = dut.groups.valid & dut.groups.ready, dut.events.valid & dut.events.ready
    group, held = Signal(given.shape(), name="group_in_hand"), Signal(name="in_hand")
    left = Array(Signal(more_bits + 1, name=f"left_{n}") for n in range(count))
    waits = Cat(each != 0 for each in left)
    lowest: Value = Const(0)
    for number in reversed(range(count)):
        lowest = Mux(waits[number], number, lowest)
    number_left = sum((each for each in left), Const(0))
    is_end = group.kind == Kind.END
    is_last = is_end | (number_left == 1)
    with m.If(leaves):
        m.d.sync += held.eq(~is_last)
        with m.If(~is_end):
            m.d.sync += left[lowest].eq(left[lowest] - 1)
    with m.If(takes):
        m.d.sync += [held.eq(1), group.eq(given)]
        for number, each in enumerate(left):
            more = given.more[number] if more_bits else 0
            m.d.sync += each.eq(Mux(fires[number], 1 + more, 0))

    bench.holds(dut.events.valid == held)
    bench.holds(dut.groups.ready == (~held | (is_last & dut.events.ready)))
    bench.holds(~held | (event.kind == group.kind))
    first = Array(given.shape().firsts)[group.part]
    place = (event.y == group.y) & (event.x == group.x) & (event.c == first + lowest)
    sign = Array(group.minus[n] for n in range(count))[lowest]
    bench.assume(given.part < len(given.shape().firsts))
    bench.holds(~held | is_end | (place & (event.negative == sign)))
    nothing = (event.y == 0) & (event.x == 0) & (event.c == 0) & (event.negative == (group.flush if flushes else 0))
    bench.holds(~held | ~is_end | nothing)
    if levels:
        bench.holds(~held | (event.closes == Mux(is_last, group.closes, 0)))

    # What it has found of the channels that wait.
    bench.lemma(~held | (Value.cast(inside.group) == Value.cast(group)))
    bench.lemma(held == inside.held)
    bench.lemma(~held | (group.part < len(given.shape().firsts)))
    bench.lemma(~held | (inside.base == first))
    bench.lemma(~held | is_end | (waits.any() & ((inside.selected | inside.rest) == waits)))
    bench.lemma(~held | ~is_end | (~waits.any() & (inside.selected == 0) & (inside.rest == 0)))
    bench.lemma(~held | (inside.selected == Mux(waits.any(), 1 << lowest, 0)))
    bench.lemma(~held | ((inside.selected & inside.rest) == 0))
    bench.lemma(~held | (inside.more == (inside.rest != 0)))
    if more_bits:
        of_lowest = left[lowest]
        bench.lemma(~held | (inside.left == Mux(is_end, 0, of_lowest - 1)))
        for number in range(count):
            later = inside.rest[number]
            bench.lemma(~held | is_end | ~later | (left[number] == group.more[number] + 1))
    bench.reaches(leaves & ~is_end & is_last & takes)
    bench.reaches(held & (waits.all()))
    bench.reaches(leaves & is_end)


PROPERTIES = (
    Property(
        name="Events of a group: each spike once, in ascending channel, what it closes after the last",
        module=hw.pipeline.serializer,
        part="Serializer",
        bound="groups of 1, 2, 3, 4 and 8 channels, up to 4 spikes of each; flushes, 1 and 2 levels of barriers",
        build=serialized,
        cases=[
            {"channels": channels, "more_bits": more_bits, "flushes": flushes, "levels": levels}
            for channels, more_bits, flushes, levels in (
                (3, 0, False, 0),
                (1, 0, False, 0),
                (8, 0, True, 2),
                (2, 1, False, 1),
                (4, 2, True, 0),
                (8, 2, False, 2),
            )
        ],
        reach=6,
        fault=Fault(
            says="the first channel is sent again in place of the next",
            right="m.d.sync += next_of(rest, selected, rest, more)",
            wrong="m.d.sync += next_of(selected, selected, rest, more)",
            steps=8,
        ),
    ),
)
