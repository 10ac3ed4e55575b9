"""The pipeline of a folded machine whose neurons fire deferred: what becomes of a block's states on its way."""

from types import ModuleType, SimpleNamespace
from typing import Any

from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value, signed

import hw.folded.deferred_pipeline
from model.machine.folded_layout import Folded
from model.network import Shape
from sim.formal.bench import Bench, elaborated, kept
from sim.formal.deferred import taken_at_flush
from sim.formal.networks import small_folded
from sim.formal.properties import Fault, Property

__all__ = ["PROPERTIES"]

_DONE = 3
"""Cycles from a request until its block is written, or the count of a flush is taken; a cycle later a place has settled."""


def pipelined(bench: Bench, pipelines: ModuleType, *, shape: tuple[int, int, int], lanes: int) -> None:
    """A `DeferredPipeline` between any memory and any requests, of which any one is watched.

    Any one block of the memory, and any one word of weights, is what is found where it is asked for; others may be anything, as
    initial states may. The members of a place come one after the other; the sign of events stays while blocks are on their way,
    and the layer in use all the time. What was begun may be dropped in any cycle.
    """
    m, folded = bench.m, small_folded(Shape(*shape), lanes=lanes, deferred=True)
    dut = pipelines.DeferredPipeline(folded=folded)
    of_lanes = kept(dut, "_lane")
    inside = elaborated(dut)
    m.submodules.dut = dut
    layer, request, port = bench.constant(range(len(folded.layers)), "layer"), dut.request, dut.memory
    bench.assume(layer < len(folded.layers))
    m.d.comb += [dut.layer.eq(layer), dut.drop.eq(bench.any(1, "drop")), dut.negative.eq(bench.any(1, "negative"))]
    for name in ("last_block", "y", "x", "weight"):
        m.d.comb += getattr(dut, name).eq(bench.any(len(getattr(dut, name)), name))
    memory = _Memory(bench, dut)
    m.d.comb += request.as_value().eq(bench.any(len(request.as_value()), "request"))
    bench.assume(~bench.before(dut.busy, "busy") | (dut.negative == bench.before(dut.negative, "negative")))
    loaded = inside.loaded
    follows = loaded.valid & loaded.flush & ~loaded.last
    bench.assume(~(request.valid & request.flush & ~request.first) | follows)

    bits = max(la.layer.weight_bits for la in folded.layers)
    # The watched request, and the states that it reads.
    age, asked, there = Signal(range(_DONE + 3), name="age"), Signal(request.shape(), name="asked"), Signal(port.place.shape())
    words = [Signal(dut.states[0].shape(), name=f"word_of_{lane}") for lane in range(lanes)]
    sums = [Signal(words[0].summed.shape(), name=f"sum_of_{lane}") for lane in range(lanes)]
    with m.If(age != 0):
        m.d.sync += age.eq(Mux(age == _DONE + 1, 0, age + 1))
        with m.If(dut.drop):
            m.d.sync += asked.valid.eq(0)
    with m.Elif(bench.any(1, "watch")):
        m.d.sync += [age.eq(1), asked.eq(request), asked.valid.eq(request.valid & ~dut.drop), there.eq(memory.place)]
    with m.If(age == 1):
        for lane in range(lanes):
            first, stored = inside.initial.states[lane], memory.states[lane]
            summed, weight = Mux(memory.stale, first.summed, stored.summed), Value.cast(memory.weights[lane])[:bits].as_signed()
            m.d.sync += [words[lane].summed.eq(summed), words[lane].count.eq(first.count)]
            m.d.sync += sums[lane].eq(Mux(dut.negative, summed - weight, summed + weight))
    writes, settles = asked.valid & ~asked.flush, asked.valid & asked.flush & asked.last
    for lane in range(lanes):
        bench.holds((age != 2) | (dut.states[lane].as_value() == words[lane].as_value()))
        bench.holds(~((age == _DONE) & writes) | (port.write_states[lane].summed == sums[lane]))
    bench.holds((age != _DONE) | (port.write == writes))
    to_there = Value.cast(port.write_place) == there.as_value()
    bench.holds(~((age == _DONE) & writes) | (to_there & (port.completes == (asked.place.block == dut.last_block))))
    bench.holds((age != _DONE + 1) | (dut.settles == (settles & ~dut.drop)))
    # States that a frame starts with are asked for while those of the memory come.
    bench.holds((age != 1) | (inside.initial.block == asked.place.block))
    _on_their_way(bench, dut, inside)
    _stages(bench, inside, age, asked, there)
    for lane in range(lanes):
        stages = of_lanes[lane]
        added = Signal(stages.word.summed.shape(), name=f"added_{lane}")
        m.d.comb += added.eq(stages.word.summed + Value.cast(stages.drive)[:bits].as_signed() + dut.negative)
        bench.lemma((age != 2) | ~asked.valid | (added == sums[lane]))
        bench.lemma((age != _DONE) | ~asked.valid | (stages.summed == sums[lane]))

    changes = _places(bench, dut, inside, of_lanes, folded, layer)
    fired = bench.before((age == _DONE + 1) & dut.settles, "settled")
    place = Signal(asked.place.shape(), name="place_settled")
    m.d.sync += place.eq(asked.place)
    bench.holds(~fired | (dut.fired.as_value() == place.as_value()))
    bench.reaches((age == _DONE) & port.write & dut.negative & memory.was_block & memory.was_weights)
    bench.reaches((age == _DONE) & ~asked.valid & bench.before(dut.drop, "drop"))
    bench.reaches(fired & (changes[0] > 1))
    bench.reaches(fired & (changes[-1] < 0))


class _Memory:
    """The memory: what it has at one place, any one, is what is found where that is asked for; else it is anything.

    Attributes
    ----------
    place, states, stale, weights : Value
        What is to be found by what is asked of the pipeline: the block's place at once, the rest a cycle later.
    was_block, was_weights : Signal
        Whether that one was asked for in the cycle before.
    """

    def __init__(self, bench: Bench, dut: Any) -> None:
        port, request, before = dut.memory, dut.request, {}
        at = {name: bench.constant(len(getattr(port, name)), f"{name}_of_one") for name in ("y", "x", "block", "weight")}
        asks = {"y": dut.y, "x": dut.x, "block": request.place.block, "weight": dut.weight}
        for who, by in (("pipeline", asks), ("port", {name: getattr(port, name) for name in at})):
            block = Cat(by[name] == at[name] for name in ("y", "x", "block")).all()
            weights = by["weight"] == at["weight"]
            before[who] = block, bench.before(block, f"block_of_{who}"), bench.before(weights, f"weights_of_{who}")
        self.was_block, self.was_weights = before["pipeline"][1:]

        def found(name: str, which: int) -> Any:
            member = getattr(port, name)
            width, to_be = len(Value.cast(member)), Signal.like(member, name=f"{name}_to_be_found")
            one, other = bench.constant(width, f"{name}_of_one_block"), bench.any(width, f"memory_{name}")
            bench.m.d.comb += [
                Value.cast(member).eq(Mux(before["port"][which], one, other)),
                Value.cast(to_be).eq(Mux(before["pipeline"][which], one, other)),
            ]
            return to_be

        self.place, self.states, self.stale, self.weights = (
            found(name, which) for name, which in (("place", 0), ("states", 1), ("stale", 1), ("weights", 2))
        )


def _on_their_way(bench: Bench, dut: Any, inside: SimpleNamespace) -> None:
    """State that it is busy for three cycles after an update, and four after a flush, and waits in the first of them."""
    m, request = bench.m, dut.request
    left, waits = Signal(range(_DONE + 2), name="cycles_left"), Signal(name="waits_for_states")
    later = Mux(left == 0, 0, left - 1)
    own = Mux(request.flush, _DONE + 1, Mux(later > _DONE, later, _DONE))
    m.d.sync += [left.eq(Mux(dut.drop, 0, Mux(request.valid, own, later))), waits.eq(request.valid & ~dut.drop)]
    bench.holds(dut.busy == (left != 0))
    bench.holds(dut.waits == waits)
    bench.reaches((left == 1) & bench.before(left == 2, "two_left"))
    loaded, updated, done, settled = inside.stages
    found: Value = Const(0, 3)
    for stage, cycles in ((settled, 0), (done, 1), (updated, 2), (loaded, 3)):
        of = (stage.flush + cycles)[:3] if stage is not settled else Const(1, 3)
        found = Mux(stage.valid & (of > found), of, found)
    bench.lemma(left == found)


def _stages(bench: Bench, inside: SimpleNamespace, age: Signal, asked: Any, there: Any) -> None:
    """Lemmas of where the watched request is; and that places have no gaps."""
    loaded, updated, done, settled = inside.stages
    for number, stage in enumerate(inside.stages, 1):
        fields = [stage[name] for name in ("flush", "first", "last")]
        same = (Cat(fields) == Cat(asked[name] for name in ("flush", "first", "last"))) & (
            stage.place.as_value() == asked.place.as_value()
        )
        valid = asked.valid & asked.flush if stage is settled else asked.valid
        bench.lemma((age != number) | (same & (stage.valid == valid)))
    for number, place in enumerate(inside.places, 1):
        bench.lemma((age != number) | (place.as_value() == there.as_value()))
    for later, stage in ((updated, loaded), (done, updated), (settled, done)):
        bench.lemma(~(stage.valid & stage.flush & ~stage.first) | (later.valid & later.flush & ~later.last))
    bench.lemma(~settled.valid | settled.flush)


def _places(
    bench: Bench, dut: Any, inside: SimpleNamespace, of_lanes: list[SimpleNamespace], folded: Folded, layer: Value
) -> list[Signal]:
    """State what places fire, of the counts that their members have taken; gives how far those of the last one have moved."""
    m, done, settled = bench.m, inside.done, inside.settled
    at_hand = bench.before(bench.started, "started")
    bench.lemma(~(at_hand | inside.loaded.valid) | bench.started)
    bench.lemma(~Cat(stage.valid for stage in inside.stages[1:]).any() | at_hand)
    facts = inside.select.facts
    shape = facts.shape()
    right = Array(shape.const(shape.of(la.layer)).as_value() for la in folded.layers)[layer]
    bench.lemma(~bench.started | (facts.as_value() == right))
    limits = [la.layer.count_limits for la in folded.layers]
    least, most = (Array(Const(limit[n], signed(9)) for limit in limits)[layer] for n in (0, 1))
    any_held, found = [], []
    for lane, stages in enumerate(of_lanes):
        word = dut.states[lane]
        taken_now, held_now = _taken(bench, folded, layer, word)
        taken, held = Signal(taken_now.shape(), name=f"taken_{lane}"), Signal(name=f"held_{lane}")
        had = Signal(word.count.shape(), name=f"had_{lane}")
        m.d.sync += [taken.eq(taken_now), held.eq(held_now), had.eq(word.count)]
        any_held.append(held)
        bench.lemma(~at_hand | ((stages.take.count == taken) & (stages.take.held == held)))
        # The greatest counts of the place that is under way, before and after.
        before, after = (Signal(signed(9), name=f"greatest_{name}_{lane}") for name in ("before", "after"))
        change = Signal(signed(10), name=f"change_{lane}")
        with m.If(done.valid & done.flush):
            m.d.sync += [
                after.eq(Mux(done.first | (taken > after), taken, after)),
                before.eq(Mux(done.first | (had > before), had, before)),
            ]
        bench.lemma(~settled.valid | ((dut.counts[lane] == after) & (stages.greatest_before == before)))
        for count in (stages.first.count, word.count, had, stages.count):
            bench.lemma((count >= least) & (count <= most))
        for count in (after, before):
            bench.lemma(~settled.valid | ((count >= least) & (count <= most)))
        with m.If(dut.settles):
            m.d.sync += change.eq(after - before)
        bench.holds((dut.plus[lane] == (change > 0)) & (dut.minus[lane] == (change < 0)))
        bench.holds(~dut.settles | (dut.counts[lane] == after))
        more = Mux(change > 0, change - 1, -change - 1)
        bench.holds((change == 0) | (dut.more[lane] == more))
        bench.lemma((change <= (most - least)) & (change >= (least - most)))
        found.append(change)
    bench.holds(dut.saturates == (done.valid & done.flush & Cat(any_held).any()))
    bench.holds(dut.fires == (bench.before(dut.settles, "settles") & Cat(change.any() for change in found).any()))
    bench.reaches(dut.saturates)
    bench.reaches(dut.fires & bench.before(bench.before(~settled.first, "single"), "members"))
    return found


def _taken(bench: Bench, folded: Folded, layer: Value, word: Any) -> tuple[Value, Value]:
    """The count that a neuron of the layer in use takes at a flush, and whether it saturates."""
    counts, late = [], []
    for la in folded.layers:
        bits, f = la.layer.potential_bits + 1, la.layer.threshold_log2
        potential = Signal(signed(max(bits, len(word.count) + f + 1) + 2))
        bench.m.d.comb += potential.eq(word.summed[:bits].as_signed() + (word.count << f))
        taken = taken_at_flush(bench.m, la.layer, potential, word.count)
        counts.append(taken.count)
        late.append(taken.outside | taken.held)
    count = Signal(signed(9))
    bench.m.d.comb += count.eq(Array(counts)[layer])
    return count, Array(late)[layer]


PROPERTIES = (
    Property(
        name="Pipeline of a folded machine that fires deferred: what it reads; sums, and where they go; what a place fires, of "
        "all its members; how long it is busy",
        module=hw.folded.deferred_pipeline,
        part="DeferredPipeline",
        bound="two layers of different potentials and activations, one in use; 1, 2 and 4 lanes",
        build=pipelined,
        cases=[
            {"shape": (1, 2, 2), "lanes": 1},
            {"shape": (2, 2, 3), "lanes": 2},
            {"shape": (1, 3, 4), "lanes": 4},
        ],
        reach=12,
        fault=Fault(
            says="a block is written to where the next one lies",
            right="memory.write_place.eq(places[-1])",
            wrong="memory.write_place.eq(places[-2])",
            steps=8,
        ),
        more_faults=[
            Fault(
                says="states of another frame are used",
                right="word.summed.eq(Mux(memory.stale, first.summed, memory.states[lane].summed))",
                wrong="word.summed.eq(memory.states[lane].summed)",
                steps=8,
            ),
            Fault(
                says="a flush takes the count of the state that comes next",
                right="take.wanted.eq(wanted)",
                wrong="take.wanted.eq(want.wanted)",
                steps=8,
            ),
            Fault(
                says="a place has the greatest count of the one before",
                right="with m.If(done.first | (take.count > greatest)):",
                wrong="with m.If(take.count > greatest):",
                steps=10,
            ),
            Fault(
                says="what was just begun is not dropped",
                right="m.d.sync += [stage.valid.eq(0) for stage in stages]",
                wrong="m.d.sync += [stage.valid.eq(0) for stage in stages[1:]]",
                steps=8,
            ),
            Fault(
                says="a row is read for a column",
                right="memory.x.eq(self.x),",
                wrong="memory.x.eq(self.y),",
                steps=8,
                case=2,
            ),
            Fault(
                says="the first row is always read",
                right="memory.y.eq(self.y),",
                wrong="memory.y.eq(0),",
                steps=8,
                case=1,
            ),
            Fault(
                says="the block that is read is that of the last request",
                right="memory.block.eq(request.place.block),",
                wrong="memory.block.eq(loaded.place.block),",
                steps=8,
            ),
            Fault(
                says="weights are those of the next address",
                right="memory.weight.eq(self.weight),",
                wrong="memory.weight.eq(self.weight + 1),",
                steps=8,
            ),
            Fault(
                says="a frame starts with what is of the next block",
                right="initial.block.eq(loaded.place.block),",
                wrong="initial.block.eq(request.place.block),",
                steps=8,
            ),
            Fault(
                says="it is no longer busy while a place settles",
                right="self.busy.eq(Cat(stage.valid for stage in stages).any()),",
                wrong="self.busy.eq(Cat(stage.valid for stage in stages[:-1]).any()),",
                steps=8,
            ),
            Fault(
                says="it is not busy yet with what was just begun",
                right="self.busy.eq(Cat(stage.valid for stage in stages).any()),",
                wrong="self.busy.eq(Cat(stage.valid for stage in stages[1:]).any()),",
                steps=8,
            ),
            Fault(
                says="it waits only for what is flushed",
                right="self.waits.eq(loaded.valid),",
                wrong="self.waits.eq(loaded.valid & loaded.flush),",
                steps=8,
            ),
            Fault(
                says="it waits in the cycle of the request",
                right="self.waits.eq(loaded.valid),",
                wrong="self.waits.eq(request.valid),",
                steps=8,
            ),
            Fault(
                says="negative events add their weights",
                right="drive.eq(memory.weights[lane] ^ self.negative.replicate(WEIGHT_SLOT))",
                wrong="drive.eq(memory.weights[lane])",
                steps=8,
            ),
        ],
    ),
)
