"""Tags and states of a folded machine: a word is what was last written to it in its frame, or its initial value."""

from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

import hw.folded.memories
import hw.folded.tags
from hw.parts.single_port import PART_BITS, PARTS
from model.machine.folded_layout import SINGLE_BITS, SINGLE_WORDS, Folded
from model.network import Shape
from sim.formal.bench import Bench, elaborated, kept
from sim.formal.memories import CollidingMemory
from sim.formal.networks import small_folded
from sim.formal.properties import Fault, Property

__all__ = ["PROPERTIES"]


def tagged(bench: Bench, tags: ModuleType, *, depth: int, generation_bits: int) -> None:
    """`Tags`, of which any one is watched, as machines use them.

    Any tags are read, and any are marked, one a cycle. A frame ends in any cycle; where that was the last generation, and after
    a reset, a sweep follows, during which nothing is marked and what is read is of no use. Tags start as those of the first
    frame.
    """
    dut, inside = _tags(bench, tags, SimpleNamespace(tag_depth=depth, generation_bits=generation_bits))
    bench.m.submodules.dut = dut
    watched = bench.constant(range(depth), "watched")
    addr, mark_addr = (bench.any(range(depth), name) for name in ("addr", "mark_addr"))
    bench.assume((watched < depth) & (addr < depth) & (mark_addr < depth))
    frames = _Frames(bench, dut, depth, generation_bits)
    mark = bench.any(1, "mark")
    bench.assume(~(mark & frames.sweeping))
    bench.m.d.comb += [dut.addr.eq(addr), dut.mark.eq(mark), dut.mark_addr.eq(mark_addr)]

    fresh, marks = Signal(name="fresh"), mark & (mark_addr == watched)
    bench.m.d.sync += fresh.eq(~frames.ends & (fresh | marks))
    # What is read while it is marked may be anything.
    looked = bench.before((addr == watched) & ~marks & ~frames.sweeping, "looked") & ~frames.sweeping
    bench.holds(~looked | (dut.stale == ~fresh))
    frames.lemmas(inside, watched, fresh)

    marked_in, marked = Signal(generation_bits, name="marked_in"), Signal(name="marked")
    with bench.m.If(marks):
        bench.m.d.sync += [marked_in.eq(inside.generation), marked.eq(1)]
    bench.reaches(looked & fresh)
    bench.reaches(marks & frames.ends)
    # A tag that has come round.
    bench.reaches(looked & ~fresh & marked & (marked_in == inside.generation))


def _tags(bench: Bench, tags: ModuleType, folded: Any) -> tuple[Any, SimpleNamespace]:
    """The tags of a machine, in a memory that starts with the first generation."""
    memories: list[CollidingMemory] = []

    def colliding(*, shape: Any, depth: int, **_: Any) -> CollidingMemory:
        memories.append(CollidingMemory(bench, "tags", width=shape.width, depth=depth, init=[1] * depth))
        return memories[-1]

    with patch.object(tags, "Memory", colliding):
        dut = tags.Tags(folded=folded)
        inside = elaborated(dut)
    for each in memories:
        each.collide()
    return dut, inside


class _Frames:
    """Frames that end at any time, and the sweeps that follow some, as a machine's control has them.

    Attributes
    ----------
    ends : Value
        Whether a frame ends.
    sweeping : Signal
        Whether tags are swept.
    """

    def __init__(self, bench: Bench, dut: Any, depth: int, generation_bits: int) -> None:
        m, self._bench, self._depth = bench.m, bench, depth
        self.ends, self.sweeping = bench.any(1, "frame_ends"), Signal(name="sweeping", init=1)
        bench.assume(~(self.ends & self.sweeping))
        m.d.comb += [dut.next_frame.eq(self.ends), dut.sweep.eq(self.sweeping)]
        last = (1 << generation_bits) - 2
        self._number, self._swept = Signal(generation_bits, name="frame_number"), Signal(range(depth), name="swept")
        with m.If(self.ends):
            m.d.sync += [self._number.eq(Mux(self._number == last, 0, self._number + 1)), self.sweeping.eq(self._number == last)]
        with m.If(self.sweeping):
            m.d.sync += self._swept.eq(Mux(self._swept == depth - 1, 0, self._swept + 1))
            with m.If(self._swept == depth - 1):
                m.d.sync += self.sweeping.eq(0)
        # A sweep is asked for after so many frames, and takes a cycle a tag.
        bench.holds(self.sweeping | (dut.wraps == (self._number == last)))
        bench.holds(~self.sweeping | (dut.swept == (self._swept == depth - 1)))

    def lemmas(self, inside: SimpleNamespace, watched: Value, fresh: Value) -> None:
        """What the memory holds of a tag."""
        bench, tag = self._bench, inside.tags.read_port(domain="comb")
        bench.m.d.comb += tag.addr.eq(watched)
        generation, sweep_addr = inside.generation, inside.sweep_addr
        bench.lemma((generation == self._number + 1) & (generation != 0) & (sweep_addr == self._swept))
        bench.lemma(Mux(self.sweeping, ~fresh & (self._number == 0) & (sweep_addr < self._depth), sweep_addr == 0))
        bench.lemma(~self.sweeping | (sweep_addr <= watched) | (tag.data == 0))
        bench.lemma(self.sweeping | Mux(fresh, tag.data == generation, tag.data < generation))


def stored(
    bench: Bench,
    memories: ModuleType,
    *,
    shape: tuple[int, int, int],
    lanes: int,
    single: tuple[str, ...] = (),
    weights: tuple[str, ...] = (),
    deferred: bool = False,
    generation_bits: int = 2,
) -> None:
    """The `Memories` of a machine of a layer of ``shape`` and a last one, of which any block of states is watched.

    Beside them is its content as a memory would keep it that is swept at the end of each frame: what was written last, and
    whether that was in this frame. In each cycle any block of any layer is read, and any block of that layer written, or none.
    All blocks of a position are written before the last one says so (``completes``), and what is read in between is of no use.
    The layer in use stays until what is read of it is there. Frames end as of `tagged`. Weights are loaded in any cycle in which
    nothing is written, and not checked. What is read of a word, or of its tag, while that is written may be anything, as may
    what the memory with one port has then.
    """
    m, folded = bench.m, small_folded(
        Shape(*shape), lanes=lanes, single=single, weights=weights, deferred=deferred, generation_bits=generation_bits
    )
    blocks = _Blocks(bench, folded)
    at, to, watched = bench.any(8, "at"), bench.any(8, "to"), bench.constant(8, "watched")
    bench.assume((at < blocks.count) & (to < blocks.count) & (watched < blocks.count))
    dut, inside = _memories(bench, memories, folded, blocks.of("state", watched))
    port, layer = dut.port, blocks.of("layer", at)
    frames = _Frames(bench, dut, folded.tag_depth, generation_bits)
    write, completes = bench.any(1, "write"), bench.any(1, "completes")
    value = bench.any(port.write_states.shape(), "written_states")
    bench.assume(~write | (~frames.sweeping & (blocks.of("layer", to) == layer)))
    m.d.comb += [
        dut.layer.eq(layer),
        *(getattr(port, name).eq(blocks.of(name, at)) for name in ("y", "x", "block")),
        port.weight.eq(bench.any(len(port.weight), "weight")),
        port.write.eq(write),
        port.completes.eq(completes),
        port.write_place.state.eq(blocks.of("state", to)),
        port.write_place.tag.eq(blocks.of("tag", to)),
        port.write_states.eq(value),
    ]
    bench.holds((port.place.state == blocks.of("state", at)) & (port.place.tag == blocks.of("tag", at)))
    bench.holds(dut.one_port == blocks.of("single", at))

    # What was written to the watched block, in this frame, and whether its position is complete.
    content, written, fresh = Signal(port.states.shape(), name="content"), Signal(name="written"), Signal(name="fresh")
    its_tag, is_single = blocks.of("tag", watched), blocks.of("single", watched)
    writes, marks = write & (to == watched), write & completes & (blocks.of("tag", to) == its_tag)
    with m.If(writes):
        m.d.sync += content.eq(value)
    m.d.sync += [written.eq(~frames.ends & (written | writes)), fresh.eq(~frames.ends & (fresh | marks))]
    bench.assume(~marks | written | writes)
    for which, layers in ((0, inside.of_block), (1, inside.of_single)):
        if layers:
            form = memories.stored_state(folded, layers)
            bench.assume(~writes | (is_single != which) | Cat(_fits(bench, form, value[lane]) for lane in range(lanes)).all())
    undisturbed = ~marks & ~writes & ~(write & is_single)
    if folded.single_weight_words:
        undisturbed = undisturbed & ~_loads(bench, dut, folded, write)
        bench.lemma(~inside.loads[0].check.reads)
    looks = (at == watched) & (~written | fresh) & undisturbed & ~frames.sweeping
    looked = bench.before(looks, "looked") & ~frames.sweeping & (layer == bench.before(layer, "layer"))
    bench.holds(~looked | (port.stale == ~written))
    used = blocks.of("lanes", watched)
    for lane in range(lanes):
        same = Value.cast(port.states[lane]) == Value.cast(content[lane])
        bench.holds(~(looked & written) | (lane >= used) | same)

    frames.lemmas(inside.tags, its_tag, fresh)
    bench.lemma(~fresh | written)
    bench.lemma(~(frames.sweeping & written))
    for which, states, layers in ((0, inside.block, inside.of_block), (1, inside.single, inside.of_single)):
        if not layers:
            continue
        form, kept = memories.stored_state(folded, layers), states(blocks.of("state", watched))
        slot = form.size if which == 0 else SINGLE_BITS // folded.single_lanes
        for lane in range(lanes if which == 0 else folded.single_lanes):
            part = form(kept.word_select(lane, slot)[: form.size])
            same = Cat(part[name] == content[lane][name] for name in form.members).all()
            bench.lemma(~written | (is_single != which) | same)
        bench.reaches(looked & fresh & (is_single == which) & content.as_value().any() & bench.before(looked, "looks_again"))
    bench.reaches(looked & port.stale & bench.before(looked, "looks_too") & content.as_value().any())
    bench.reaches(written & ~fresh & write & (to != watched))
    bench.reaches(frames.sweeping & content.as_value().any())


def _loads(bench: Bench, dut: Any, folded: Folded, write: Value) -> Value:
    """Weights that are written in any cycle in which no state is, to where they lie; gives whether one is."""
    loads, addr = bench.any(1, "loads"), bench.any(len(dut.weights.addr), "load_addr")
    bench.assume(~(loads & write) & (addr >= folded.single_state_words))
    bench.m.d.comb += [dut.weights.en.eq(loads), dut.weights.addr.eq(addr), dut.check.eq(0)]
    for name in ("part", "data"):
        member = getattr(dut.weights, name)
        bench.m.d.comb += member.eq(bench.any(len(member), name))
    return loads


def _fits(bench: Bench, form: data.StructLayout, state: Any) -> Value:
    """Whether a state is one of those that a memory stores."""
    kept = Signal(form)
    bench.m.d.comb += [kept[name].eq(state[name]) for name in form.members]
    return Cat(kept[name] == state[name] for name in form.members).all()


class _Blocks:
    """All blocks of all layers, by number: where they are, and where their states and tags lie, told from the layers' sizes.

    Attributes
    ----------
    count : int
        How many there are.
    """

    def __init__(self, bench: Bench, folded: Folded) -> None:
        found, state, tag = [], {True: 0, False: 0}, 0
        for number, la in enumerate(folded.layers):
            for y in range(la.output.height):
                for x in range(la.output.width):
                    for block in range(-(-la.output.channels // la.lanes)):
                        places = {"layer": number, "y": y, "x": x, "block": block, "tag": tag, "state": state[la.state_single]}
                        found.append(places | {"single": la.state_single, "lanes": la.lanes})
                        state[la.state_single] += 1
                    tag += 1
        self.count, self._found = len(found), found

    def of(self, name: str, number: Value) -> Value:
        """A value of a block."""
        values = [int(each[name]) for each in self._found]
        width = max(1, max(values).bit_length())
        return Array(Const(value, width) for value in values)[number]


class _OnePort(wiring.Component):
    """A memory with one port, of which one word is known, at ``watched``, and others may be anything."""

    def __init__(self, bench: Bench, watched: Value) -> None:
        self._watched, self._other = watched, bench.any(SINGLE_BITS, "single_other")
        self.content = Signal(SINGLE_BITS, name="single_content")
        super().__init__(
            {"addr": In(range(SINGLE_WORDS)), "write_en": In(PARTS), "write_data": In(SINGLE_BITS), "read_data": Out(SINGLE_BITS)}
        )

    def elaborate(self, platform: object) -> Module:
        m, found = Module(), Signal(name="single_found")
        here = self.addr == self._watched
        m.d.sync += found.eq(here & ~self.write_en.any())
        for part in range(PARTS):
            with m.If(here & self.write_en[part]):
                m.d.sync += self.content.word_select(part, PART_BITS).eq(self.write_data.word_select(part, PART_BITS))
        m.d.comb += self.read_data.eq(Mux(found, self.content, self._other))
        return m


def _memories(bench: Bench, memories: ModuleType, folded: Folded, watched: Value) -> tuple[Any, SimpleNamespace]:
    """Memories, and what is inside: the tags, and the watched word of the states of each kind."""
    states: list[CollidingMemory] = []
    singles: list[_OnePort] = []
    tags: list[SimpleNamespace] = []

    def colliding(*, shape: Any, depth: int, init: Any, **_: Any) -> Memory:
        if len(init):
            return Memory(shape=shape, depth=depth, init=init)
        states.append(CollidingMemory(bench, "states", width=shape.width, depth=depth, init=[]))
        return states[-1]

    def one_port() -> _OnePort:
        singles.append(_OnePort(bench, watched))
        return singles[-1]

    def any_tags(*, folded: Folded) -> Any:
        made, inside = _tags(bench, hw.folded.tags, folded)
        tags.append(inside)
        return made

    with patch.multiple(memories, Memory=colliding, SinglePort=one_port, Tags=any_tags):
        dut = memories.Memories(folded=folded)
        loads = kept(dut, "_load")
        bench.add("dut", dut)
    for each in states:
        each.collide()

    def block(addr: Value) -> Value:
        look = states[0].read_port(domain="comb")
        bench.m.d.comb += look.addr.eq(addr)
        return Value.cast(look.data)

    of_block, of_single = ([la for la in folded.layers if la.state_single is which] for which in (False, True))
    kinds = {"block": block, "single": lambda _: singles[0].content, "of_block": of_block, "of_single": of_single}
    return dut, SimpleNamespace(tags=tags[0], loads=loads, **kinds)


PROPERTIES = (
    Property(
        name="Tags of a folded machine: what was marked in its frame, and nothing else; sweeps",
        module=hw.folded.tags,
        part="Tags",
        bound="2 to 9 tags of 1 to 4 bits",
        build=tagged,
        cases=[
            {"depth": depth, "generation_bits": bits}
            for depth, bits in ((3, 2), (2, 1), (2, 3), (4, 2), (5, 1), (5, 3), (9, 2), (4, 4))
        ],
        reach=26,
        fault=Fault(
            says="the generation after the last one is that of no frame",
            right="Mux(self.wraps, 1, generation + 1)",
            wrong="Mux(self.wraps, 0, generation + 1)",
            steps=16,
        ),
        more_faults=[
            Fault(
                says="swept tags are those of the frame that follows",
                right="write.data.eq(Mux(self.sweep, 0, generation))",
                wrong="write.data.eq(generation)",
                steps=8,
            ),
            Fault(
                says="a sweep ends a tag early",
                right="self.swept.eq(sweep_addr == self._depth - 1)",
                wrong="self.swept.eq(sweep_addr == self._depth - 2)",
                steps=8,
            ),
            Fault(
                says="the tag that is read is marked",
                right="write.addr.eq(Mux(self.sweep, sweep_addr, self.mark_addr))",
                wrong="write.addr.eq(Mux(self.sweep, sweep_addr, self.addr))",
                steps=10,
            ),
            Fault(
                says="the next sweep begins where the last one ended",
                right="m.d.sync += sweep_addr.eq(Mux(self.swept, 0, sweep_addr + 1))",
                wrong="m.d.sync += sweep_addr.eq(Mux(self.swept, sweep_addr, sweep_addr + 1))",
                steps=16,
            ),
        ],
    ),
    Property(
        name="State memory of a folded machine: a block is what was last written to it in its frame, or new",
        module=hw.folded.memories,
        part="Memories",
        bound="two layers of 1 to 6 positions, 1 to 3 blocks of 1 to 4 lanes each; block RAM, the memory with one port, "
        "and both; weights beside states; immediate and deferred; tags of 1 and 2 bits",
        build=stored,
        cases=[
            {"shape": (1, 2, 2), "lanes": 1},
            {"shape": (2, 3, 3), "lanes": 2, "deferred": True},
            {"shape": (1, 2, 4), "lanes": 4, "single": ("conv",)},
            {"shape": (2, 2, 3), "lanes": 2, "single": ("fc",), "weights": ("conv",)},
            {"shape": (3, 1, 3), "lanes": 2, "single": ("conv", "fc"), "deferred": True},
            {"shape": (2, 1, 2), "lanes": 2, "single": ("conv",), "deferred": True, "generation_bits": 1},
        ],
        reach=20,
        fault=Fault(
            says="a layer's states begin with those of the first",
            right="state = la.state_base + _block_at(position, la.blocks, port.block)",
            wrong="state = _block_at(position, la.blocks, port.block)",
            steps=10,
        ),
        more_faults=[
            Fault(
                says="a position is marked with each of its blocks",
                right="tags.mark.eq(port.write & port.completes)",
                wrong="tags.mark.eq(port.write)",
                steps=10,
            ),
            Fault(
                says="the position that is read is marked",
                right="tags.mark_addr.eq(port.write_place.tag)",
                wrong="tags.mark_addr.eq(port.place.tag)",
                steps=10,
            ),
            Fault(
                says="positions of all layers share their tags",
                right="port.place.tag.eq(la.tag_base + position)",
                wrong="port.place.tag.eq(position)",
                steps=10,
            ),
            Fault(
                says="what is in the memory with one port is written to block RAM, too",
                right="write.en.eq(port.write & ~self.one_port)",
                wrong="write.en.eq(port.write)",
                steps=12,
                case=2,
            ),
            Fault(
                says="a word is written where weights are read",
                right="spram_alt_addr.eq(Mux(self.one_port, port.write_place.state, port.weight >> slot_bits))",
                wrong="spram_alt_addr.eq(port.weight >> slot_bits)",
                steps=12,
                case=2,
            ),
            Fault(
                says="the memory with one port is written for layers that have no states there",
                right="(port.write & self.one_port).replicate(PARTS)",
                wrong="port.write.replicate(PARTS)",
                steps=12,
                case=3,
            ),
        ],
    ),
)
