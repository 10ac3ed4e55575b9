"""From steps to groups: each group that fired once, in ascending order; and events as groups of their own."""

from types import ModuleType
from typing import Any

from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value

import hw.pipeline.groups
from hw.aer import Kind
from model.machine.plan import CorePlan
from model.network import Shape
from sim.formal.bench import Bench
from sim.formal.properties import Fault, Property

__all__ = ["PROPERTIES"]

_LATENCY = 4
"""Cycles from a step to its first group."""


def selected(
    bench: Bench,
    selectors: ModuleType,
    *,
    rows: int = 1,
    columns: int = 1,
    channels: int = 1,
    shape: tuple[int, int, int] = (3, 3, 2),
    more_bits: int = 0,
    flushes: bool = False,
    levels: int = 0,
) -> None:
    """A `GroupSelector`, beside the number of groups within it, and one watched step, any one.

    As many groups as were within it when the watched step came have to leave, and then those of that step. As it may be any, the
    groups that leave are those of the steps that came, in their order.
    """
    m, size = bench.m, Shape(*shape)
    core = CorePlan(layer="conv", rows=rows, columns=columns, channels=channels)
    dut = selectors.GroupSelector(shape=size, core=core, more_bits=more_bits, flushes=flushes, levels=levels)
    inside = bench.add("dut", dut)
    bench.source(dut.steps, "steps")
    bench.sink(dut.groups, "groups")
    given, group, layout = dut.steps.payload, dut.groups.payload, dut.steps.payload.shape()
    places = _places(core)
    # A step that fires has some, all of them within the layer; an end has none.
    bench.assume(_is_step(given, size, core))

    counts, most = range(len(places) + 1), 2 * len(places) + 2
    takes, leaves = dut.steps.valid & dut.steps.ready, dut.groups.valid & dut.groups.ready
    comes = Signal(counts, name="comes")
    m.d.comb += comes.eq(Mux(takes, _groups_of(given.fired), 0))
    level, ahead, one = Signal(range(most + 1), name="level"), Signal(range(most + 1), name="ahead"), Signal(name="one")
    token, left = Signal(layout, name="token"), Signal(len(places), name="left")
    lowest, later = _apart(m, "left", left)
    last = later == 0
    m.d.sync += level.eq(level + comes - leaves)
    its_turn = one & (ahead == 0)
    with m.If(takes & ~one & bench.any(1, "watch")):
        m.d.sync += [one.eq(1), ahead.eq(level - leaves), token.eq(given), left.eq(given.fired)]
    with m.Elif(leaves & its_turn):
        m.d.sync += [one.eq(~last), left.eq(later)]
    with m.Elif(leaves & one):
        m.d.sync += ahead.eq(ahead - 1)

    # The watched step's groups: where they are, and what they have.
    is_end = token.kind == Kind.END
    for number, (dy, dx, chunk) in enumerate(places):
        at = its_turn & dut.groups.valid & lowest[number]
        bench.holds(~at | ((group.y == token.y + dy) & (group.x == token.x + dx)))
        bench.holds(~at | (group.part == token.block * core.chunks + chunk))
        bank = _bank(token, core, (dy, dx, chunk))
        for name in ("plus", "minus", *(("more",) if more_bits else ())):
            bench.holds(~at | (Value.cast(group[name]) == Array(token[name][n] for n in range(len(places)))[bank]))
    its_group = its_turn & dut.groups.valid
    bench.holds(~its_group | (group.kind == token.kind))
    if flushes:
        bench.holds(~its_group | ~is_end | (group.flush == token.flush))
    if levels:
        bench.holds(~its_group | (group.closes == Mux(last, token.closes, 0)))

    # What is offered stays until it is taken.
    waited = bench.before(dut.groups.valid & ~dut.groups.ready, "group_waits")
    bench.holds(~waited | (dut.groups.valid & (Value.cast(group) == bench.before(Value.cast(group), "group"))))
    # A group is offered from 4 cycles after its step on, when none is ahead; a step is taken where there is little left to do.
    recent = [comes]
    for cycle in range(1, _LATENCY):
        recent.append(bench.before(recent[-1], f"comes_{cycle}"))
    bench.holds(dut.groups.valid == (level != sum(recent[1:], Const(0))))
    bench.holds(dut.steps.ready | (level >= 3))
    bench.lemma(~one | (_is_step(token, size, core) & ((left & ~token.fired) == 0)))
    # Without stalls on either side there is no gap.
    eager, age = Signal(init=1, name="eager"), Signal(range(_LATENCY + 1), name="age")
    m.d.sync += [eager.eq(eager & dut.steps.valid & dut.groups.ready), age.eq(Mux(age == _LATENCY, age, age + 1))]
    bench.holds(~eager | (dut.groups.valid == (age == _LATENCY)))

    _lemmas(bench, dut, inside, core, level=level, one=one, ahead=ahead, token=token, left=left, recent=recent)
    stages = Cat(inside.waits, inside.held, inside.turns, dut.groups.valid)
    for stage, full in enumerate(stages):
        bench.lemma(~eager | (full == (age > stage)))
    bench.reaches(its_turn & leaves & last & ~is_end & stages.all() & takes)
    bench.reaches(its_turn & leaves & is_end)
    if len(places) > 1:
        bench.reaches(its_turn & leaves & left.all())
        bench.reaches(dut.groups.valid & ~dut.groups.ready & one & (ahead == level - len(places)) & (ahead > len(places)))


def _places(core: CorePlan) -> list[tuple[int, int, int]]:
    """Of each group of a step, in ascending order, its row, column and chunk."""
    return [(dy, dx, chunk) for dy in range(core.rows) for dx in range(core.columns) for chunk in range(core.chunks)]


def _is_step(step: Any, size: Shape, core: CorePlan) -> Value:
    """Whether a step is one that comes: with spikes, all of them within the layer, or an end without any."""
    holds = [(step.kind == Kind.END) == (step.fired == 0), step.y_phase < core.rows, step.x_phase < core.columns]
    parts = len(core.firsts(size.channels))
    for number, (dy, dx, chunk) in enumerate(_places(core)):
        within = (step.y + dy < size.height) & (step.x + dx < size.width) & (step.block * core.chunks + chunk < parts)
        holds.append(~step.fired[number] | within)
    return Cat(holds).all()


def _bank(step: Any, core: CorePlan, place: tuple[int, int, int]) -> Value:
    """The number of a group among those of all banks."""
    dy, dx, chunk = place
    row, column = (step.y_phase + dy) % core.rows, (step.x_phase + dx) % core.columns
    return (row * core.columns + column) * core.chunks + chunk


def _groups_of(fired: Value) -> Value:
    """How many groups a step leaves in; an end is one as well."""
    number = sum(fired, Const(0))
    return Mux(number == 0, 1, number)


def _apart(m: Any, name: str, bits: Value) -> tuple[Signal, Signal]:
    """The lowest bit that is set, and those above it."""
    lowest, later = (Signal(len(bits), name=f"{name}_{which}") for which in ("lowest", "later"))
    for number, bit in enumerate(bits):
        first = bit & ~bits[:number].any() if number else bit
        m.d.comb += [lowest[number].eq(first), later[number].eq(bit & ~first)]
    return lowest, later


def _lemmas(
    bench: Bench,
    dut: Any,
    inside: Any,
    core: CorePlan,
    *,
    level: Signal,
    one: Signal,
    ahead: Signal,
    token: Any,
    left: Signal,
    recent: list[Value],
) -> None:
    """Where the groups are: one leaves, one is turned, some are of the step in hand, the others of the one that waits."""
    m, valid, turns, held, waits = bench.m, dut.groups.valid, inside.turns, inside.held, inside.waits
    in_hand, waiting = inside.selected | inside.rest, inside.waiting
    hand, unmoved = Mux(held, _groups_of(in_hand), 0), Mux(waits, _groups_of(waiting.fired), 0)
    bench.lemma(level == valid + turns + hand + unmoved)
    bench.lemma(~held | ((inside.step.kind == Kind.END) == (in_hand == 0)))
    bench.lemma(~waits | ((waiting.kind == Kind.END) == (waiting.fired == 0)))
    lowest, later = _apart(m, "in_hand", in_hand)
    bench.lemma(~held | ((inside.selected == lowest) & (inside.rest == later) & (inside.more == (later != 0))))
    # How old they are.
    for cycle, (full, behind) in enumerate(((held, unmoved), (turns, hand + unmoved), (valid, turns + hand + unmoved)), 1):
        young = sum(recent[1 : cycle + 1], Const(0))
        bench.lemma((young <= behind) & (full | (young == behind)))
    # The watched step: its first group is behind those ahead, and its last one is that many later.
    number = _groups_of(left)
    is_end = token.kind == Kind.END
    bench.lemma(~one | (ahead + number <= level))
    bench.lemma(~one | (is_end == (left == 0)))
    is_out = one & valid & (ahead == 0)
    is_turned = one & turns & (ahead <= valid) & (ahead + number > valid)
    is_held = one & held & (ahead < valid + turns + hand) & (ahead + number > valid + turns)
    is_waiting = one & waits & (ahead + number > valid + turns + hand)
    # What is not out or turned is in hand, or all of it waits.
    first, after_first = _apart(m, "watched_first", left)
    second, after_second = _apart(m, "watched_second", after_first)
    to_turn = Mux(is_out, second, first)
    behind = Mux(is_out & is_turned, after_second, Mux(is_out | is_turned, after_first, left))
    bench.lemma(~is_turned | (Value.cast(inside.turning) == Value.cast(token)))
    where = inside.place
    for number_of_place, (dy, dx, chunk) in enumerate(_places(core)):
        at = is_turned & to_turn[number_of_place]
        bench.lemma(~at | (inside.bank == Const(1) << _bank(token, core, (dy, dx, chunk))))
        bench.lemma(~at | ((where.y == token.y + dy) & (where.x == token.x + dx)))
        bench.lemma(~at | (where.part == token.block * core.chunks + chunk))
    bench.lemma(~is_turned | (where.kind == token.kind))
    if "flush" in token.shape().members:
        bench.lemma(~is_turned | ~is_end | (where.flush == token.flush))
    if "closes" in token.shape().members:
        is_last = ahead + number == valid + turns
        bench.lemma(~is_turned | (where.closes == Mux(is_last, token.closes, 0)))
    bench.lemma(~is_held | ((Value.cast(inside.step) == Value.cast(token)) & (in_hand == behind)))
    bench.lemma(~is_held | ((ahead <= valid + turns) & (ahead + number == valid + turns + hand)))
    bench.lemma(~is_waiting | ((Value.cast(waiting) == Value.cast(token)) & (left == token.fired)))
    bench.lemma(~is_waiting | (ahead == valid + turns + hand))


def grouped(
    bench: Bench,
    groupers: ModuleType,
    *,
    channels: int,
    of: int,
    more_bits: int = 0,
    flushes: bool = False,
    levels: int = 0,
) -> None:
    """An `EventGrouper`, which has no state: what passes is one spike, at the event's place, or the end that came."""
    size, core = Shape(2, 3, of), CorePlan(layer="pool", channels=channels)
    dut = groupers.EventGrouper(shape=size, core=core, more_bits=more_bits, flushes=flushes, levels=levels)
    bench.add("dut", dut)
    bench.source(dut.events, "events")
    bench.sink(dut.groups, "groups")
    event, group, firsts = dut.events.payload, dut.groups.payload, core.firsts(of)
    bench.assume(event.c < of)
    is_end = event.kind == Kind.END
    passes = (dut.groups.valid == dut.events.valid) & (dut.events.ready == dut.groups.ready) & (group.kind == event.kind)
    bench.holds(passes & (is_end | ((group.y == event.y) & (group.x == event.x) & (group.part < len(firsts)))))
    # The one channel that fires is the event's, in the group that it is in.
    ends = Array((*firsts[1:], of))[group.part]
    bench.holds(is_end | (event.c < ends))
    for n in range(group.shape().channels):
        fires = ~is_end & (Array(firsts)[group.part] + n == event.c)
        bench.holds((group.plus[n] == (fires & ~event.negative)) & (group.minus[n] == (fires & event.negative)))
    bench.holds(is_end | ((group.plus | group.minus) != 0))
    if more_bits:
        bench.holds(Value.cast(group.more) == 0)
    if flushes:
        bench.holds(~is_end | (group.flush == event.negative))
    if levels:
        bench.holds((group.closes == event.closes) & ((group.plus & group.minus) == 0))
    bench.reaches(group.plus[-1] & dut.groups.ready)
    bench.reaches(group.minus[0] & dut.groups.ready)
    bench.reaches(is_end & dut.groups.valid)


PROPERTIES = (
    Property(
        name="Groups of a step: each that fired once, in ascending order, what it closes after the last; after 4 cycles, no gaps",
        module=hw.pipeline.groups,
        part="GroupSelector",
        bound="1 to 6 groups a step; of 1 to 3 rows and columns, 1 and 2 chunks; bursts, flushes, 1 and 2 levels of barriers",
        build=selected,
        cases=[
            {"rows": 1, "columns": 2},
            {"flushes": True},
            {"rows": 2, "columns": 2, "more_bits": 1, "levels": 1},
            {"rows": 3, "columns": 1, "flushes": True, "levels": 2},
            {"channels": 18, "shape": (2, 2, 36), "levels": 1},
            {"rows": 1, "columns": 3, "channels": 18, "shape": (3, 3, 36)},
        ],
        reach=12,
        fault=Fault(
            says="the first group is sent again in place of the next",
            right="m.d.sync += next_of(rest, selected, rest, more)",
            wrong="m.d.sync += next_of(selected, selected, rest, more)",
            steps=10,
        ),
        more_faults=[
            Fault(
                says="a group is taken from the bank of its place in the step",
                right="bank.eq(turned(core, selected, step.y_phase, step.x_phase, to=\"banks\"))",
                wrong="bank.eq(selected)",
                steps=8,
            ),
            Fault(
                says="a step is taken while one waits",
                right="m.d.comb += self.steps.ready.eq(~waits | take)",
                wrong="m.d.comb += self.steps.ready.eq(1)",
                steps=8,
            ),
            Fault(
                says="each group closes what the last one does",
                right="place.closes.eq(Mux(more, 0, step.closes))",
                wrong="place.closes.eq(step.closes)",
                steps=8,
                case=2,
            ),
            Fault(
                says="a group that leaves is gone where it is not taken",
                right="moves.eq(~self.groups.valid | self.groups.ready)",
                wrong="moves.eq(1)",
                steps=8,
            ),
        ],
    ),
    Property(
        name="Events as groups: each one alone in the group of its channel, ends as they come",
        module=hw.pipeline.groups,
        part="EventGrouper",
        bound="1 to 36 channels in groups of 1 to 16, the last of fewer; bursts, flushes, 1 and 2 levels of barriers",
        build=grouped,
        cases=[
            {"channels": 2, "of": 3, "flushes": True},
            {"channels": 1, "of": 1, "levels": 2},
            {"channels": 4, "of": 4, "more_bits": 2, "levels": 1},
            {"channels": 17, "of": 34},
            {"channels": 16, "of": 30, "more_bits": 1, "flushes": True},
        ],
        reach=2,
        fault=Fault(
            says="negative spikes are positive as well",
            right="group.plus.eq(channel & ~event.negative.replicate(len(channel)))",
            wrong="group.plus.eq(channel)",
            steps=2,
        ),
        more_faults=[
            Fault(
                says="all groups are taken to be full",
                right="part_of = [bisect_right(layout.firsts, c) - 1",
                wrong="part_of = [c // layout.channels",
                steps=2,
                case=3,
            ),
        ],
    ),
)
