"""Forks and merges: nothing lost, duplicated, or reordered within an input.

That none of their graphs locks up is proved by exhaustion, in ``tests/hw/pipeline/test_deadlock.py``.
"""

from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

from amaranth.hdl import Cat, Const, Mux, Signal, Value

import hw.pipeline.flush_inserter
import hw.pipeline.merge
import hw.pipeline.router
from hw.aer import Kind
from model.network import Shape
from sim.formal.bench import Bench, called
from sim.formal.networks import small_network
from sim.formal.properties import Fault, Property

__all__ = ["PROPERTIES"]


def fork(bench: Bench, routers: ModuleType, *, readers: int, choosy: bool) -> None:
    """The router's fork of a link, to readers that want all tokens, or some."""
    m, numbers = bench.m, range(readers)
    valid, ready = bench.any(1, "valid"), Signal(name="ready")
    wants = Cat(bench.any(1, f"wants_{n}") if choosy else 1 for n in numbers)
    readies = Cat(bench.any(1, f"ready_{n}") for n in numbers)
    valids = Cat(Signal(name=f"valid_{n}") for n in numbers)
    branches = [routers.Branch(valids[n], readies[n], wants[n] if choosy else None) for n in numbers]
    _, inside = called(routers.fork, m, "link", valid, ready, branches)
    # The link keeps its token until it is taken.
    waits = bench.before(valid & ~ready, "waits")
    bench.assume(~waits | (valid & (wants == bench.before(wants, "wants"))))

    # Which readers have the token that is there.
    has = Signal(readers, name="has")
    passes = valid & ready
    with m.If(passes):
        m.d.sync += has.eq(0)
    with m.Else():
        m.d.sync += has.eq(has | (valids & readies))

    # Offered once, to those that want it, until they take it; it leaves when all of them have it, and at once then.
    bench.holds(valids == Mux(valid, wants & ~has, 0))
    bench.holds(~valid | (ready == (~wants | has | readies).all()))
    bench.lemma(inside.taken == Mux(waits, has | ~wants, 0))
    bench.lemma(waits | (has == 0))
    bench.reaches(passes & has[:-1].all() & ~has[-1])
    bench.reaches(passes & ~has.any() & wants.all())


def merge(bench: Bench, merges: ModuleType, *, shapes: Sequence[tuple[int, int, int]]) -> None:
    """A `Merge` of inputs, which has no state."""
    dut, inputs, merged, _ = _merge(bench, merges.Merge(shapes=[Shape(*shape) for shape in shapes]))
    # Of the end of a frame all inputs say the same.
    same = Cat(~_is_end(each) | (each.payload.negative == inputs[0].payload.negative) for each in inputs).all()
    all_end = Cat(each.valid & _is_end(each) for each in inputs).all()
    bench.assume(~all_end | same)

    passes = merged.valid & merged.ready
    spikes = Cat(each.valid & each.ready & ~_is_end(each) for each in inputs)
    ends = Cat(each.valid & each.ready & _is_end(each) for each in inputs)
    spike_passes, end_passes = passes & ~_is_end(merged), passes & _is_end(merged)
    # A spike leaves as just one enters; an end, as all of them do. Nothing enters otherwise.
    bench.holds(spike_passes == spikes.any())
    bench.holds((spikes & (spikes - 1)) == 0)
    bench.holds(Mux(end_passes, ends.all(), ~ends.any()))
    for number, each in enumerate(inputs):
        moved = _moved(each.payload, merged.payload, dut.shapes[:number])
        bench.holds(~spikes[number] | moved)
    bench.holds(~end_passes | (merged.payload.negative == inputs[0].payload.negative))
    # Where there is anything that can go, something is offered.
    any_spike = Cat(each.valid & ~_is_end(each) for each in inputs).any()
    bench.holds(merged.valid == (any_spike | all_end))
    bench.reaches(end_passes)
    bench.reaches(spikes[len(inputs) - 1] & (ends == 0) & spike_passes)


def ordered_merge(
    bench: Bench, merges: ModuleType, *, shapes: Sequence[tuple[int, int, int]], levels: int, ends_here: bool
) -> None:
    """An `OrderedMerge`: whose turn it is, and what passes.

    Written from the rules: the input whose turn it is passes its tokens. A token that closes a level ends its turn. The last
    input closes behind the merge what its tokens close, less the level that ends here. What then says nothing is dropped.
    """
    m = bench.m
    made = merges.OrderedMerge(shapes=[Shape(*shape) for shape in shapes], levels=levels, ends_here=ends_here)
    dut, inputs, merged, inside = _merge(bench, made)
    turn = Signal(range(len(inputs)), name="whose_turn")
    ends_frame = Cat(each.valid & _is_end(each) & (each.payload.closes == 0) for each in inputs)
    for each in inputs:
        bench.assume(each.payload.closes <= levels)
    closes_behind = merged.payload.closes if levels > ends_here else Const(0)
    at_turn: list[Value] = []
    for number, each in enumerate(inputs):
        closes = each.payload.closes
        is_last = number == len(inputs) - 1
        remains = closes - (ends_here & (closes != 0)) if is_last else Const(0)
        enters, closing = each.valid & each.ready, closes != 0
        goes_on = ~_is_end(each) | (remains != 0)
        its_token = (turn == number) & each.valid & (~_is_end(each) | closing)
        at_turn.append(its_token)
        # Its turn: the token goes on, or is dropped.
        bench.holds(~(its_token & goes_on) | (merged.valid & (each.ready == merged.ready) & (closes_behind == remains)))
        bench.holds(~(its_token & goes_on) | (_is_end(merged) == _is_end(each)))
        bench.holds(~(its_token & ~_is_end(each)) | _moved(each.payload, merged.payload, dut.shapes[:number]))
        bench.holds(~(its_token & ~goes_on) | (each.ready & ~merged.valid))
        # Not its turn, or the end of its frame: only with all the others.
        bench.holds(~(enters & ~its_token) | ends_frame.all())
        with m.If(enters & its_token & closing):
            m.d.sync += turn.eq(0 if is_last else number + 1)
        bench.reaches(enters & its_token & closing)
        if ends_here or not is_last:
            bench.reaches(enters & its_token & ~goes_on)
    all_end = ends_frame.all()
    bench.holds(~all_end | (merged.valid & _is_end(merged) & (closes_behind == 0)))
    bench.holds(~all_end | (Cat(each.ready for each in inputs) == merged.ready.replicate(len(inputs))))
    # Nothing is offered that did not come.
    bench.holds(~merged.valid | Cat(at_turn).any() | all_end)
    bench.reaches(all_end & merged.ready)
    bench.lemma((turn == inside.turn) & (turn < len(inputs)))


def flushes(bench: Bench, inserters: ModuleType, *, every: int) -> None:
    """A `FlushInserter`: what comes passes in order, with a flush after every so many events of a frame."""
    m = bench.m
    dut = inserters.FlushInserter(network=small_network(firing="deferred", flush_events=every))
    inside = bench.add("dut", dut)
    bench.source(dut.host, "host")
    bench.sink(dut.flushed, "flushed")
    host, flushed = dut.host.payload, dut.flushed.payload
    enters, leaves = dut.host.valid & dut.host.ready, dut.flushed.valid & dut.flushed.ready
    events, owed = Signal(range(every + 1), name="events_since"), Signal(name="owed")
    is_event = (host.kind == Kind.SPIKE) & (host.port == 0)
    with m.If(leaves & owed):
        m.d.sync += owed.eq(0)
    with m.Elif(enters):
        m.d.sync += events.eq(Mux(host.kind == Kind.END, 0, events + is_event))
        with m.If(is_event & (events == every - 1)):
            m.d.sync += [events.eq(0), owed.eq(1)]
    # A flush that is owed leaves first, and is one; nothing else changes.
    bench.holds(~owed | (dut.flushed.valid & (flushed.kind == Kind.END) & flushed.negative & (flushed.port == 0) & ~enters))
    bench.holds(owed | (dut.flushed.valid == dut.host.valid))
    bench.holds(owed | (enters == leaves))
    bench.holds(owed | ~leaves | (Value.cast(flushed) == Value.cast(host)))
    bench.lemma((events == inside.events) & (owed == inside.due) & (events < every))
    bench.reaches(owed & leaves)
    bench.reaches(enters & (host.kind == Kind.END) & (events == every - 1) & ~owed)


def _merge(bench: Bench, dut: Any) -> tuple[Any, list[Any], Any, SimpleNamespace]:
    """A merge with any inputs, whose coordinates are within their shapes."""
    inside = bench.add("dut", dut)
    inputs = [getattr(dut, f"events_{number}") for number in range(len(dut.shapes))]
    for number, (each, shape) in enumerate(zip(inputs, dut.shapes, strict=True)):
        bench.source(each, f"events_{number}")
        bench.assume((each.payload.y < shape.height) & (each.payload.x < shape.width) & (each.payload.c < shape.channels))
    bench.sink(dut.merged, "merged")
    return dut, inputs, dut.merged, inside


def _is_end(each: Any) -> Value:
    return each.payload.kind == Kind.END


def _moved(event: Any, merged: Any, before: Sequence[Shape]) -> Value:
    """Whether a merged spike is that of an input, behind those of the inputs before."""
    heights, widths, channels = (sum(sizes) for sizes in zip((0, 0, 0), *before, strict=True))
    return (
        (merged.negative == event.negative)
        & (merged.y == event.y + heights)
        & (merged.x == event.x + widths)
        & (merged.c == event.c + channels)
    )


_TWO = ((2, 1, 3), (1, 4, 2))
_THREE = (*_TWO, (3, 2, 1))

PROPERTIES = (
    Property(
        name="Fork: each token to each reader that wants it, once, in order; it leaves as soon as all have it",
        module=hw.pipeline.router,
        part="fork",
        bound="2 to 6 readers, that want all tokens or some",
        build=fork,
        cases=[{"readers": readers, "choosy": choosy} for choosy in (False, True) for readers in range(2, 7)],
        reach=10,
        fault=Fault(
            says="a reader that has the token is offered it again",
            right="offered = valid & ~taken[number]",
            wrong="offered = valid",
            steps=4,
        ),
    ),
    Property(
        name="Merge as they come: each spike once, the ends of all inputs as one",
        module=hw.pipeline.merge,
        part="Merge",
        bound="2 and 3 inputs of different shapes",
        build=merge,
        cases=[{"shapes": _TWO}, {"shapes": _THREE}],
        reach=2,
        fault=Fault(
            says="two spikes that are there at once leave as one",
            right="chosen.eq(spikes[number] & ~spikes[:number].any() if number else spikes[number])",
            wrong="chosen.eq(spikes[number])",
            steps=2,
        ),
    ),
    Property(
        name="Merge in order: inputs in turn, what each closes kept, nothing lost or made",
        module=hw.pipeline.merge,
        part="OrderedMerge",
        bound="2 and 3 inputs, 1 to 3 levels of barriers",
        build=ordered_merge,
        cases=[
            {"shapes": shapes, "levels": levels, "ends_here": ends_here}
            for shapes in (_TWO, _THREE)
            for levels in (1, 2, 3)
            for ends_here in (False, True)
        ],
        reach=8,
        fault=Fault(
            says="a turn ends with a token that has not been taken",
            right="with m.If(leaves & ends_turn):",
            wrong="with m.If(each.valid & ends_turn & (turn == number)):",
            steps=6,
        ),
    ),
    Property(
        name="Flushes among events: after every so many of a frame, nothing else changed",
        module=hw.pipeline.flush_inserter,
        part="FlushInserter",
        bound="a flush after every 1 to 9 events",
        build=flushes,
        cases=[{"every": every} for every in range(1, 10)],
        reach=14,
        fault=Fault(
            says="a frame does not count anew",
            right="                m.d.sync += events.eq(0)\n",
            wrong="                m.d.sync += events.eq(events)\n",
            steps=14,
            case=1,
        ),
    ),
)
