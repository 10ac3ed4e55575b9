"""Projection cores: which words an event, or a flush, visits, when, and with which weights."""

from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value

import hw.pipeline.projection
from hw.aer import Kind
from hw.pipeline.flush_lanes import FlushLanes
from hw.pipeline.weights import WeightMemory
from model.machine.plan import CorePlan
from model.network import Convolution, Linear, Neurons, Padding, Shape
from sim.formal.bench import Bench, kept
from sim.formal.properties import Fault, Property
from sim.formal.queues import IdealFifo
from sim.formal.states import AnyBank, history

__all__ = ["PROPERTIES"]

_LATENCY = 3
"""Cycles from a step that is issued to the access of its words."""

_WEIGHTED = 3
"""From then until their weights are read."""

_LOOKED = 1
"""The cycle of a step after which its words are accessed."""

_AT_HAND = 6
"""Cycles from an access until its words are at hand."""


class _Geometry:
    """Which neurons an event reaches, by which weights, told from the sizes alone.

    Parameters
    ----------
    source, output : Shape
        Of the layer.
    window : tuple or None
        Kernel, stride and padding (of the top and the left); None of a linear layer.
    groups : int
        Of channels.
    core : CorePlan
        Banks and lanes.
    """

    def __init__(self, source: Shape, output: Shape, window: tuple[Any, Any, Any] | None, groups: int, core: CorePlan) -> None:
        self.source, self.output, self._window, self._groups, self.core = source, output, window, groups, core
        self.blocks = -(-output.channels // core.channels)
        self.words_a_row = -(-output.width // core.columns) * self.blocks
        self.depth = -(-output.height // core.rows) * self.words_a_row

    def taps(self, axis: int, at: int) -> dict[int, int]:
        """Of an axis the outputs that an input reaches, ascending, and the place of each in its window."""
        if self._window is None:
            return {0: 0}
        kernel, stride, padding = (each[axis] for each in self._window)
        found = {o: at + padding - o * stride for o in range(self.output[axis])}
        return {o: tap for o, tap in found.items() if 0 <= tap < kernel}

    def blocks_of(self, channel: int) -> range:
        """The blocks with channels that an input's channel reaches."""
        each = self.output.channels // self._groups
        first = channel // (self.source.channels // self._groups) * each
        return range(first // self.core.channels, (first + each - 1) // self.core.channels + 1)

    @property
    def weight_counts(self) -> tuple[int, int, int]:
        """Words of weights, less the blocks, from row to row, from column to column, and of a channel."""
        if self._window is None:
            return self.source.width * self.source.channels, self.source.channels, 1
        height, width = self._window[0]
        return width, 1, height * width

    def weight_of(self, axis: int, at: int, o: int) -> int:
        """How far along an axis the weights are from an input to an output that it reaches."""
        place = at if self._window is None else self.taps(axis, at).get(o, 0)
        return place * self.weight_counts[axis] * self.blocks

    def weight_of_channel(self, c: int, block: int) -> int:
        """The same of a channel and a block."""
        each = self.source.channels // self._groups
        return c % each * self.weight_counts[2] * self.blocks + block


class _Watched(NamedTuple):
    """Any word of any bank: the position and block that it is of, which may be beyond the layer's end."""

    y: Value
    x: Value
    block: Value
    bank: Value
    addr: Value


def walk(
    bench: Bench,
    projections: ModuleType,
    *,
    source: tuple[int, int, int],
    kernel: tuple[int, int] | None,
    channels: int,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    groups: int = 1,
    rows: int = 1,
    columns: int = 1,
    lanes: int = 1,
    deferred: bool = False,
    flushes: bool = False,
    levels: int = 0,
    fifo: int = 8,
    generation_bits: int = 1,
) -> None:
    """A `ProjectionCore`, beside the event that its banks' accesses are of, and one watched word, any one.

    Events come one after the other, as they like, within the shape of their source. The word is due for each event that reaches
    it, and at each flush, and is visited once then. What memories hold, and what lanes make of it, may be anything.
    """
    m, size = bench.m, Shape(*source)
    layer = _layer(size, kernel, channels, stride, padding, groups)
    core = CorePlan(
        layer="p", rows=rows, columns=columns, channels=lanes, group_fifo=fifo, generation_bits=generation_bits
    )
    output = layer.output_shape(size)
    geometry = _Geometry(size, output, None if kernel is None else (kernel, stride, padding), groups, core)
    watched = _watch(bench, geometry)
    built = _built(bench, projections, layer, core, size, watched, deferred=deferred, flushes=flushes, levels=levels)
    dut, inside, banks, tags = built.dut, built.inside, built.banks, built.tagged[0].tags
    reuse = dut.fan_out.reuse
    token, takes = dut.events.payload, dut.events.valid & dut.events.ready
    for name, most in zip(("y", "x", "c"), size, strict=True):
        bench.assume(token[name] < most)
    if levels:
        bench.assume(token.closes <= levels)

    # What the walker had in hand, and whether it was done, when it issued what is accessed now.
    taken, ready = (history(bench, value, name, _LATENCY)[-1] for name, value in (("takes", takes), ("ready", dut.events.ready)))
    coming = token.shape()(history(bench, token.as_value(), "token", _LATENCY)[-1])
    event = Signal(token.shape(), name="event_of_access")
    with m.If(taken):
        m.d.sync += event.eq(coming)
    tag = tags["looked"].shape()(bench.before(tags["looked"].as_value(), "tag"))
    flush = Array(bench.before(each, f"flushed_{n}") for n, each in enumerate(inside.addresses.flushed or [Const(0)]))
    accesses = Array(Cat(bank.access.en, bank.access.addr) for bank in banks)[watched.bank]
    flushed = (flush[watched.bank] if deferred else Const(0)) & (accesses[1:] == watched.addr)
    updated = accesses[0] & (accesses[1:] == watched.addr)
    hit = Signal(name="visits_watched")
    m.d.comb += hit.eq(updated | flushed)

    # It is due once for what reaches it.
    due = Signal(name="due")
    is_end = event.kind == Kind.END
    exists = (watched.y < output.height) & (watched.x < output.width)
    with m.If(taken):
        m.d.sync += due.eq(Mux(coming.kind == Kind.END, exists & deferred, _reaches(m, "coming", geometry, coming, watched)))
    with m.Elif(hit):
        m.d.sync += due.eq(0)
    bench.holds(~hit | due)
    bench.holds(~ready | ~due | hit)
    # Events update it, flushes read it, and update it only where the frame may go on.
    bench.holds(~hit | (flushed == is_end))
    if deferred:
        bench.holds(~flushed | (updated == flushes))
    stepped, before = _ascending(bench, geometry, watched, tag, taken=taken, hit=hit)
    # An event adds its weight for it.
    visited = history(bench, updated & ~is_end, "updates", _WEIGHTED)[-1]
    address = history(bench, _weight(m, geometry, event, watched), "weight_addr_due", _WEIGHTED)[-1]
    bench.holds(~visited | (Array(each.addr for each in built.weights)[watched.bank] == address))
    # A word is not visited again within so many cycles of a frame.
    ended = history(bench, inside.reset.next_frame, "ended", _LATENCY)[-1]
    recent = Signal(max(1, reuse - 1), name="recent")
    m.d.sync += recent.eq(Mux(ended, 0, (recent << 1) | updated))
    if reuse > 1:
        bench.holds(~hit | (recent == 0))
    if deferred:
        _answers(bench, built, tags)
    ends = _Ends(bench, dut, inside, geometry, flushes=flushes, levels=levels)
    ends.hold(taken=taken, ready=ready, coming=coming, event=event, tag=tag, due=due & ~hit)
    swept = built.swept[0] if built.swept else None
    _lemmas(bench, geometry, built.walked[0], swept, watched, ends, event=event, due=due, stepped=stepped, before=before)
    _places(bench, inside, tags, built.gathered[0], fifo)

    bench.reaches(hit & (event.kind == Kind.SPIKE) & tag.step & taken)
    bench.reaches(ended & (recent != 0) if reuse > 1 and not deferred else ended)
    bench.reaches(inside.walk.held & (inside.walk.credits == -1))
    if deferred:
        bench.reaches(flushed & due)
    if levels:
        bench.reaches(hit & (tag.closes != 0))
    if levels and not all(geometry.taps(axis, at) for axis in (0, 1) for at in range(size[axis])):
        bench.reaches(tag.end & (event.kind == Kind.SPIKE))


class _Built(NamedTuple):
    """A core with any memories, and what is inside of it."""

    dut: Any
    inside: SimpleNamespace
    banks: "list[_Bank]"
    weights: "list[_AnyWeights]"
    walked: list[SimpleNamespace]
    swept: list[SimpleNamespace]
    tagged: list[SimpleNamespace]
    gathered: list[SimpleNamespace]
    lanes: list[FlushLanes]
    read: list[SimpleNamespace]
    delays: dict[str, list[Signal]]


def _built(
    bench: Bench,
    projections: ModuleType,
    layer: Any,
    core: CorePlan,
    size: Shape,
    watched: _Watched,
    *,
    deferred: bool,
    flushes: bool,
    levels: int,
) -> _Built:
    """Build the core; what its banks are promised, and that its FIFO has room, is asserted."""
    dut = projections.ProjectionCore(
        layer=layer,
        source=size,
        core=core,
        deferred=deferred,
        more_bits=layer.count_bits if deferred else 0,
        flushes=flushes,
        levels=levels,
    )
    walked, swept, tagged, gathered, read = (
        kept(dut, name) for name in ("_walk", "_sweep", "_tag", "_gather", "_deferred_lanes")
    )
    banks: list[_Bank] = []
    weights: list[_AnyWeights] = []

    def any_bank(**options: Any) -> _Bank:
        banks.append(_Bank(bench, **options))
        return banks[-1]

    def any_weights(**options: Any) -> _AnyWeights:
        weights.append(_AnyWeights(bench, **options))
        return weights[-1]

    def any_fifo(**options: Any) -> IdealFifo:
        return IdealFifo(bench, Const(0), **options)

    lanes: list[FlushLanes] = []
    delays: dict[str, list[Signal]] = {}
    delayed = projections._delays

    def flush_lanes(**options: Any) -> FlushLanes:
        lanes.append(FlushLanes(**options))
        return lanes[-1]

    def kept_delays(m: Module, name: str, *arguments: Any, **options: Any) -> list[Signal]:
        delays[name] = delayed(m, name, *arguments, **options)
        return delays[name]

    with patch.multiple(
        projections,
        StateBank=any_bank,
        WeightMemory=any_weights,
        SyncFIFO=any_fifo,
        FlushLanes=flush_lanes,
        _delays=kept_delays,
    ):
        inside = bench.add("dut", dut)
    bench.source(dut.events, "events")
    bench.sink(dut.groups, "groups")
    content = bench.constant(len(Value.cast(banks[0].word)), "content_of_watched")
    for number, bank in enumerate(banks):
        bank.promises(inside.reset, cycles=_LATENCY)
        bank.show((watched.bank == number) & (bank.access.addr == watched.addr), content)
    bench.holds(~(inside.reset.sweeping & inside.reset.next_frame))
    bench.holds(~inside.fifo.w_en | inside.fifo.w_rdy)
    return _Built(dut, inside, banks, weights, walked, swept, tagged, gathered, lanes, read, delays)


def _ascending(
    bench: Bench, geometry: "_Geometry", watched: Any, tag: Any, *, taken: Value, hit: Value
) -> tuple[Signal, Signal]:
    """State that a step says where it is, in ascending order; gives whether the event has had one, and where the last was."""
    m, stepped = bench.m, Signal(name="stepped")
    core, output = geometry.core, geometry.output
    within = (tag.y <= watched.y) & (watched.y < tag.y + core.rows) & (tag.x <= watched.x) & (watched.x < tag.x + core.columns)
    bench.holds(~hit | (tag.step & within & (tag.block == watched.block)))
    place, before = Signal(16, name="place"), Signal(16, name="place_before")
    m.d.comb += place.eq((tag.y * output.width + tag.x) * geometry.blocks + tag.block)
    with m.If(taken):
        m.d.sync += stepped.eq(0)
    with m.Elif(tag.step):
        m.d.sync += [stepped.eq(1), before.eq(place)]
    bench.holds(~(tag.step & stepped) | (place > before))
    return stepped, before


def _answers(bench: Bench, built: _Built, tags: dict[str, Any]) -> None:
    """State that a bank asks the lanes of a flush when its word is at hand, and shows it; one of those that share them; and who
    is answered.

    Any one step is watched on its way, and the banks that it flushes. The lanes are those of `sim.formal.flushes`: what they tell
    is of those that asked them as many cycles before.
    """
    m, names, flushed = bench.m, list(tags)[_LOOKED:], Cat(built.inside.addresses.flushed)
    groups = len(built.lanes)
    at_fired = names.index("fired")
    age, banks = Signal(4, name="age_of_step"), Signal(len(flushed), name="banks_of_step")
    step = Signal(len(tags["looked"].as_value()), name="watched_step")
    # Lanes take 2 cycles, and 3 where banks share them.
    answered = 1 + _AT_HAND + 2 + (len(flushed) > groups)
    with m.If(age != 0):
        m.d.sync += age.eq(Mux(age == answered, 0, age + 1))
    with m.Elif(bench.any(1, "watch_step")):
        m.d.sync += [age.eq(1), banks.eq(flushed), step.eq(tags["looked"].as_value())]
    for number, lanes in enumerate(built.lanes):
        shared = banks[number::groups]
        bench.holds((lanes.flushed & (lanes.flushed - 1))[: len(shared)] == 0)
        bench.holds((age != 1 + _AT_HAND) | (lanes.flushed == shared))
        for bank, of in enumerate(built.banks[number::groups]):
            bench.reaches((age == 1 + _AT_HAND) & lanes.flushed[bank])
            # What the lanes are shown is what the memory of that bank has.
            word = of.word.shape()(of.content)
            right = [_kept(lanes.states[bank][channel], word[channel]) for channel in range(len(lanes.plus))]
            bench.holds(~(lanes.flushed[bank] & of.shows) | Cat(right).all())
            bench.reaches(lanes.flushed[bank] & of.shows)
    bench.holds((age != answered) | (tags["fired"].as_value() == step))
    # Registers on their way; the last ones ask.
    delays = [built.delays[f"en_{index}"] for index in range(len(flushed))]
    asks = [flushed, Cat(each.visited for each in built.read), *(Cat(stage) for stage in zip(*delays, strict=True))][:-1]
    for cycle, asking in enumerate(asks):
        if cycle:
            bench.lemma((age != cycle) | (asking == banks))
        for number in range(groups):
            shared = asking[number::groups]
            bench.lemma((shared & (shared - 1))[: len(shared)] == 0)
    for cycle, name in enumerate(names[1:at_fired], 1):
        bench.lemma((age != cycle) | (tags[name].as_value() == step))


def _kept(state: Any, word: Any) -> Value:
    """Whether a state is what is kept of it: its count is not, where it stays within a frame."""
    return Cat(state[name] == word[name] for name in word.shape().members).all()


class _Bank(AnyBank):
    """A bank whose words may be any, but for one, which stays as it is: six cycles after it has been looked at it is there.

    Attributes
    ----------
    shows : Signal
        Whether it is.
    content : Signal
        What it has.
    """

    def __init__(self, bench: Bench, **options: Any) -> None:
        super().__init__(bench, **options)
        self.shows, self.content = Signal(name="shows_watched"), Signal(len(self._found), name="content")
        self._found = Mux(self.shows, self.content, self._found)

    def show(self, looks: Value, content: Value) -> None:
        """When the word is looked at, and what it has."""
        found = history(self._bench, looks, "looks_at_watched", _AT_HAND)[-1]
        self._bench.m.d.comb += [self.shows.eq(found), self.content.eq(content)]


class _AnyWeights(WeightMemory):
    """A `WeightMemory` whose words may be any."""

    def __init__(self, bench: Bench, **options: Any) -> None:
        super().__init__(**options)
        self._found = bench.any(len(self.word.as_value()), "any_weights")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.word.as_value().eq(self._found)
        return m


def _layer(
    source: Shape,
    kernel: tuple[int, int] | None,
    channels: int,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    groups: int,
) -> Neurons:
    options: dict[str, Any] = {"threshold_log2": 1, "weight_bits": 2, "potential_bits": 3, "count_bits": 2}
    options |= {"name": "p", "source": "input", "bias": np.zeros(channels, int), "activation": "relu"}
    if kernel is None:
        return Linear(weights=np.ones((channels, source.size), int), **options)
    weights = np.ones((channels, source.channels // groups, *kernel), int)
    return Convolution(weights=weights, stride=stride, padding=Padding(*padding), groups=groups, **options)


def _table(find: Callable[[int, int], int], first: tuple[Value, int], second: tuple[Value, int]) -> Value:
    """What is found for two values, which are below so many."""
    (at, most), (other, others) = first, second
    entries = [find(one, two) for one in range(most) for two in range(others)]
    width = max(1, max(entries).bit_length())
    return Array(Const(entry, width) for entry in entries)[at * others + other]


def _watch(bench: Bench, geometry: _Geometry) -> _Watched:
    """Any word."""
    core, words = geometry.core, geometry.depth * geometry.core.rows * geometry.core.columns
    index = bench.constant(range(max(2, words)), "watched")
    bench.assume(index < words)
    found = []
    for bank in range(core.rows * core.columns):
        row, column = divmod(bank, core.columns)
        for addr in range(geometry.depth):
            y, place = divmod(addr, geometry.words_a_row)
            x, block = divmod(place, geometry.blocks)
            found.append((y * core.rows + row, x * core.columns + column, block, bank, addr))
    fields = []
    for name, values in zip(_Watched._fields, zip(*found, strict=True), strict=True):
        fields.append(Signal(range(max(2, 1 + max(values))), name=f"watched_{name}"))
        bench.m.d.comb += fields[-1].eq(Array(Const(value, 8) for value in values)[index])
    return _Watched(*fields)


def _spans(geometry: _Geometry) -> tuple[int, int]:
    """How many rows and columns there are words of."""
    (height, width, _), core = geometry.output, geometry.core
    return -(-height // core.rows) * core.rows, -(-width // core.columns) * core.columns


def _reaches(m: Any, name: str, geometry: _Geometry, event: Any, watched: _Watched) -> Signal:
    """Whether an event reaches the watched word."""
    (height, width, channels), (rows, columns) = geometry.source, _spans(geometry)
    found = Signal(name=f"{name}_reaches")
    m.d.comb += found.eq(
        _table(lambda at, o: o in geometry.taps(0, at), (event.y, height), (watched.y, rows))
        & _table(lambda at, o: o in geometry.taps(1, at), (event.x, width), (watched.x, columns))
        & _table(lambda c, block: block in geometry.blocks_of(c), (event.c, channels), (watched.block, geometry.blocks))
    )
    return found


def _weight(m: Any, geometry: _Geometry, event: Any, watched: _Watched) -> Signal:
    """Where the weights are that an event adds to the watched word."""
    (height, width, channels), (rows, columns) = geometry.source, _spans(geometry)
    found = Signal(16, name="weight_addr_of_event")
    m.d.comb += found.eq(
        _table(lambda at, o: geometry.weight_of(0, at, o), (event.y, height), (watched.y, rows))
        + _table(lambda at, o: geometry.weight_of(1, at, o), (event.x, width), (watched.x, columns))
        + _table(geometry.weight_of_channel, (event.c, channels), (watched.block, geometry.blocks))
    )
    return found


class _Ends:
    """What is still owed of an event besides its steps: the end of its frame, a token of its own, what it closes."""

    def __init__(self, bench: Bench, dut: Any, inside: Any, geometry: _Geometry, *, flushes: bool, levels: int) -> None:
        m, self._bench, self._geometry, self._flushes, self._levels = bench.m, bench, geometry, flushes, levels
        token, ready, ends = dut.events.payload, dut.events.ready, inside.reset.next_frame
        self.frame, self.token = Signal(name="owes_end"), Signal(name="owes_token")
        self.closes = Signal(4, name="owes_closes")
        with m.If(dut.events.valid & ready):
            m.d.sync += self.frame.eq(self.ends_frame(token))
        with m.Elif(ends):
            m.d.sync += self.frame.eq(0)
        bench.holds(~ends | self.frame)
        bench.holds(~ready | ~self.frame | ends)
        bench.reaches(ends & ready)

    def ends_frame(self, token: Any) -> Value:
        """Whether a token ends its frame."""
        goes_on = token.negative if self._flushes else Const(0)
        return (token.kind == Kind.END) & ~goes_on & ((token.closes == 0) if self._levels else Const(1))

    def is_alone(self, token: Any) -> Value:
        """Whether a token goes on without a step: an end, or what closes a level and reaches nothing."""
        alone = token.kind == Kind.END
        if self._levels:
            alone = alone | ((token.closes != 0) & ~self.any_reached(token))
        return alone

    def any_reached(self, token: Any) -> Value:
        """Whether the position of an event is in any window."""
        sizes = zip((token.y, token.x), self._geometry.source, strict=False)
        found = [
            Array(Const(int(bool(self._geometry.taps(axis, at))), 1) for at in range(size))[coordinate]
            for axis, (coordinate, size) in enumerate(sizes)
        ]
        return Cat(found).all()

    def hold(self, *, taken: Value, ready: Value, coming: Any, event: Any, tag: Any, due: Value) -> None:
        """State that each goes down the pipeline once, behind the last step."""
        bench, m = self._bench, self._bench.m
        with m.If(taken):
            m.d.sync += self.token.eq(self.is_alone(coming))
        with m.Elif(tag.end):
            m.d.sync += self.token.eq(0)
        bench.holds(~tag.end | (self.token & ~due))
        bench.holds(~ready | ~self.token | tag.end)
        if self._flushes:
            bench.holds(~tag.end | (tag.goes_on == event.negative))
        if self._levels:
            told = (tag.step | tag.end) & (tag.closes != 0)
            with m.If(taken):
                m.d.sync += self.closes.eq(coming.closes)
            with m.Elif(told):
                m.d.sync += self.closes.eq(0)
            bench.holds(~told | ((tag.closes == self.closes) & ~due))
            bench.holds(~ready | (self.closes == 0) | told)


def _lemmas(
    bench: Bench,
    geometry: _Geometry,
    walker: SimpleNamespace,
    sweep: SimpleNamespace | None,
    watched: _Watched,
    ends: _Ends,
    *,
    event: Any,
    due: Signal,
    stepped: Signal,
    before: Signal,
) -> None:
    """Where the walker is, and that what is due is still ahead of it."""
    core, (height, width, channels), output = geometry.core, geometry.source, geometry.output
    token, held, block = walker.event, walker.held, walker.block
    row_lists, column_lists = ([list(geometry.taps(axis, at)) for at in range(geometry.source[axis])] for axis in (0, 1))
    row_steps = [-(-len(taps) // core.rows) for taps in row_lists]
    column_steps = [-(-len(taps) // core.columns) for taps in column_lists]
    most_rows, most_columns = max(1, *row_steps), max(1, *column_steps)

    def of(values: Sequence[int], index: Value) -> Value:
        return Array(Const(value, 8) for value in values)[index]

    is_end, any_reached = token.kind == Kind.END, ends.any_reached(token)
    walks = held & ~is_end & any_reached
    within = (token.y < height) & (token.x < width) & (token.c < channels)
    bench.lemma(~held | (within & (walker.reaches == any_reached)))
    bench.lemma(~walks | (walker.final_row + 1 == of(row_steps, token.y)))
    bench.lemma(~walks | (walker.final_column + 1 == of(column_steps, token.x)))
    at_start = (walker.row_step == 0) & (walker.column_step == 0)
    in_walk = (walker.row_step <= walker.final_row) & (walker.column_step <= walker.final_column)
    blocks = [geometry.blocks_of(c) for c in range(channels)]
    visits_all = all(found == range(geometry.blocks) for found in blocks)
    in_blocks, at_first = block < geometry.blocks, block == 0
    if not visits_all:
        lows, highs = [found.start for found in blocks], [found.stop - 1 for found in blocks]
        low, high = Mux(is_end, 0, of(lows, token.c)), Mux(is_end, geometry.blocks - 1, of(highs, token.c))
        in_blocks = ~held | ((walker.blocks.first == low) & (walker.blocks.last == high) & (block >= low) & (block <= high))
        at_first = ~held | (block == low)
    bench.lemma(in_blocks & Mux(walks, in_walk, at_start))
    bench.lemma(ends.frame == (held & ends.ends_frame(token)))

    def number_of(rows: Value, columns: Value, block: Value, most: int) -> Value:
        """The number of a step, of so many columns."""
        return (rows * most + columns) * geometry.blocks + block

    if sweep is None:
        bench.lemma(walks | (at_start & at_first))

    def then_of(name: str, value: Value) -> Value:
        return history(bench, value, f"{name}_then", _LATENCY)[-1]

    then = {name: then_of(name, getattr(walker, name)) for name in ("held", "row_step", "column_step", "block")}
    then_token = token.shape()(then_of("event", Value.cast(token)))
    then_end = then_token.kind == Kind.END
    then_walks = then["held"] & ~then_end & ends.any_reached(then_token)
    span_rows, span_columns = _spans(geometry)
    reached = _reaches(bench.m, "watched", geometry, event, watched)

    def number(lists: list[list[int]], banks: int) -> Callable[[int, int], int]:
        return lambda at, o: lists[at].index(o) // banks if o in lists[at] else 0

    row = _table(number(row_lists, core.rows), (event.y, height), (watched.y, span_rows))
    column = _table(number(column_lists, core.columns), (event.x, width), (watched.x, span_columns))
    at, to_be = (then["row_step"], then["column_step"], then["block"]), (row, column, watched.block)
    still = then_walks & reached & (number_of(*at, most_columns) <= number_of(*to_be, most_columns))
    firsts = [
        [lists[at][step * banks] if step * banks < len(lists[at]) else 0 for at in range(len(lists)) for step in range(most)]
        for lists, banks, most in ((row_lists, core.rows, most_rows), (column_lists, core.columns, most_columns))
    ]
    y = of(firsts[0], then_token.y * most_rows + then["row_step"])
    x = of(firsts[1], then_token.x * most_columns + then["column_step"])
    if sweep is not None:
        columns_of_step = 1 if geometry.blocks > 1 else core.columns
        columns = -(-output.width // columns_of_step)
        banks = sweep.of_banks if sweep.of_banks is not None else Const(0)
        unmoved = (sweep.y == 0) & (sweep.x == 0) & (sweep.row == 0) & (sweep.addr == 0) & (sweep.column == 0) & (banks == 0)
        sweeps = held & is_end & ~sweep.done
        in_place = (sweep.row == sweep.y % core.rows) & (sweep.x == sweep.column * columns_of_step)
        addr = (sweep.y // core.rows) * geometry.words_a_row + (sweep.x // core.columns) * geometry.blocks + block
        bench.lemma(~sweep.done | (held & is_end))
        bench.lemma(~sweeps | (in_place & (sweep.addr == addr) & (sweep.y < output.height) & (sweep.column < columns)))
        if sweep.of_banks is not None:
            bench.lemma(~sweeps | (banks == sweep.x % core.columns))
        bench.lemma(sweeps | (unmoved & (walks | at_first)))
        then |= {name: then_of(f"sweep_{name}", getattr(sweep, name)) for name in ("y", "x", "column", "done")}
        then_sweeps = then["held"] & then_end & ~then["done"]
        exists = (watched.y < output.height) & (watched.x < output.width)
        to_come = number_of(watched.y, watched.x // columns_of_step, watched.block, columns)
        sweep_ahead = number_of(then["y"], then["column"], then["block"], columns) <= to_come
        still = Mux(then_end, then_sweeps & exists & sweep_ahead, still)
        y, x = Mux(then_end, then["y"], y), Mux(then_end, then["x"], x)
        then_walks = then_walks | then_sweeps
    bench.lemma(due == still)
    bench.lemma(~then["held"] | (Value.cast(then_token) == Value.cast(event)))
    bench.lemma(~(then_walks & stepped) | (before < (y * output.width + x) * geometry.blocks + then["block"]))
    bench.lemma(ends.token == (then["held"] & ends.is_alone(then_token)))
    if "closes" in token.shape().members:
        bench.lemma(ends.closes == Mux(then["held"], then_token.closes, 0))


def _places(bench: Bench, inside: SimpleNamespace, tags: dict[str, Any], gathered: SimpleNamespace, fifo: int) -> None:
    """Lemmas of the places in the FIFO that what is in flight has claimed."""
    in_flight = sum(((tag.step | tag.end) for tag in tags.values()), Const(0))
    for tag in tags.values():
        bench.lemma(~(tag.step & tag.end))
    bench.lemma(~(gathered.pushes & gathered.blank))
    claimed = in_flight + gathered.pushes + gathered.blank + inside.returned + inside.fifo.level
    bench.lemma((inside.walk.credits + 1 + claimed == fifo) & (inside.walk.credits >= -1))


_2X2 = {"source": (2, 2, 1), "kernel": (2, 2), "padding": (1, 1, 0, 0)}
_2X3 = {"source": (2, 3, 1), "kernel": (3, 3), "padding": (1, 1, 1, 1)}
_3X3 = {"source": (3, 3, 1), "kernel": (3, 3), "padding": (1, 1, 1, 1)}

PROPERTIES = (
    Property(
        name="Walks of a projection: each word that an event or a flush reaches once, in order, with its weights; ends of frames",
        module=hw.pipeline.projection,
        part="ProjectionCore",
        bound="windows of 2 and 3, strides, padding, groups of channels, linear layers; flushes; 1 and 2 levels of barriers; "
        "1 to 4 blocks and banks",
        build=walk,
        cases=[
            {**_2X2, "channels": 1},
            {**_3X3, "channels": 4, "lanes": 2},
            {**_3X3, "channels": 3, "rows": 2, "columns": 2, "lanes": 3},
            {"source": (4, 3, 2), "kernel": (2, 2), "stride": (2, 2), "channels": 2, "generation_bits": 2},
            {"source": (1, 2, 2), "kernel": None, "channels": 3, "lanes": 1},
            {**_2X2, "channels": 4, "lanes": 2, "deferred": True, "fifo": 16},
            {**_3X3, "channels": 2, "lanes": 2, "rows": 2, "columns": 2, "deferred": True},
            {**_2X3, "channels": 2, "lanes": 1, "columns": 2, "deferred": True, "flushes": True, "fifo": 16},
            {"source": (2, 2, 4), "kernel": (1, 1), "channels": 4, "groups": 4},
            {"source": (2, 2, 2), "kernel": (2, 2), "padding": (1, 1, 0, 0), "channels": 4, "groups": 2, "lanes": 1},
            {"source": (2, 2, 1), "kernel": (2, 2), "stride": (2, 2), "channels": 2, "levels": 2},
            {"source": (5, 3, 1), "kernel": (2, 2), "stride": (3, 3), "channels": 2, "levels": 1},
        ],
        reach=48,
        steps=5,
        fault=Fault(
            says="the last row of a window is left out",
            right="final_row.eq(row_steps - 1),",
            wrong="final_row.eq(Mux(row_steps > 1, row_steps - 2, 0)),",
            steps=16,
        ),
        more_faults=[
            Fault(
                says="an event begins in the column where the last one ended",
                right="m.d.sync += column_step.eq(Mux(last_column, 0, column_step + 1))",
                wrong="m.d.sync += column_step.eq(Mux(last_column, column_step, column_step + 1))",
                steps=16,
            ),
            Fault(
                says="a step is issued while tags are swept",
                right="issue.eq(held & ~reset.sweeping & (credits >= 0) & (is_end | reaches))",
                wrong="issue.eq(held & (credits >= 0) & (is_end | reaches))",
                steps=12,
            ),
            Fault(
                says="a step is issued where the FIFO may have no place for it",
                right="(credits >= 0) & (is_end | reaches)",
                wrong="(is_end | reaches)",
                steps=32,
            ),
            Fault(
                says="the generation comes a cycle early",
                right='_delays(m, "generation", reset.generation, 3)',
                wrong='_delays(m, "generation", reset.generation, 2)',
                steps=20,
                case=3,
            ),
            Fault(
                says="the sweep of a flush goes on behind the words of its row",
                right="m.d.sync += addr.eq(addr - (words_a_row - 1))",
                wrong="m.d.sync += addr.eq(addr + 1)",
                steps=24,
                case=6,
            ),
            Fault(
                says="banks that are flushed together share lanes",
                right="shared = banks[index::built]",
                wrong="shared = banks[index * len(banks) // built :][: len(banks) // built]",
                steps=24,
                case=6,
            ),
            Fault(
                says="a bank shows the word of another one that shares its lanes",
                right="*(lanes.states[n].eq(bank.states) for n, bank in enumerate(shared)),",
                wrong="*(lanes.states[n].eq(bank.states) for n, bank in enumerate(reversed(shared))),",
                steps=24,
                case=6,
            ),
            Fault(
                says="all that share lanes show the word of the first of them",
                right="*(lanes.states[n].eq(bank.states) for n, bank in enumerate(shared)),",
                wrong="*(lanes.states[n].eq(shared[0].states) for n, bank in enumerate(shared)),",
                steps=24,
                case=6,
            ),
            Fault(
                says="a bank shows its word a cycle before it is at hand",
                right='_delays(m, f"en_{index}", visited, 6',
                wrong='_delays(m, f"en_{index}", visited, 5',
                steps=24,
                case=6,
            ),
            Fault(
                says="shared lanes answer a step later than they are asked by",
                right="cycles = SHARED_STEP_CYCLES if self._firing != self._core else STEP_CYCLES",
                wrong="cycles = STEP_CYCLES",
                steps=24,
                case=6,
            ),
            Fault(
                says="columns beyond the layer's end are flushed",
                right="~last | (last_columns + n < output.width)",
                wrong="Const(1)",
                steps=24,
                case=6,
            ),
            Fault(
                says="a flush within a frame ends it",
                right="reset.next_frame.eq(issue & ends_frame & ~event.negative if self._flushes else issue & ends_frame)",
                wrong="reset.next_frame.eq(issue & ends_frame)",
                steps=32,
                case=7,
            ),
            Fault(
                says="a barrier ends its frame",
                right="ends_frame = ends & ~event.closes.any()",
                wrong="ends_frame = ends",
                steps=16,
                case=10,
            ),
            Fault(
                says="what closes with an event that reaches nothing is lost",
                right="is_end.eq((event.kind == Kind.END) | (event.closes.any() & ~reaches) if self._levels",
                wrong="is_end.eq(event.kind == Kind.END if self._levels",
                steps=16,
                case=11,
            ),
            Fault(
                says="an event visits the blocks of other groups",
                right="last.eq(Mux(at_end, all_blocks - 1, high))",
                wrong="last.eq(all_blocks - 1)",
                steps=28,
                case=8,
            ),
            Fault(
                says="weights are those of the block that comes next",
                right="block_weight.eq(channel_weight + looked.block)",
                wrong="block_weight.eq(channel_weight + tags.issued.block)",
                steps=30,
                case=1,
            ),
        ],
    ),
)
