"""Forks, FIFOs and merges with barriers: nothing lost, all in order, and no state that is reached in which they wait for ever.

A proof by exhaustion. What the hardware's fork, merge and FIFO do in a cycle is tabulated, each from all of its states and for
all that may come. Then cores are abstract: each takes a token when it has none, fires any number of spikes for it, after any
time, and closes what it closed. All states of such a graph that any source, cores and sinks lead to are visited, at each depth
of the FIFOs; the merges take straight from the links, as with register stages between there is only more room.

From no state is everything stuck while anything is on its way, the source silent, each core willing to finish, the sink ready.
With a given number of events to come and of spikes to fire, each move leaves fewer to be made. So where all are fair, everything
drains. Whatever is true of FIFOs of one place is of deeper ones: each part waits for one stream at a time, so that more room only
lets more happen (Kahn, Parks); depths to four are visited all the same.
"""

from collections import deque
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.aer import Kind
from hw.pipeline.merge import OrderedMerge
from hw.pipeline.router import Branch, fork
from model.network import Shape
from tests.hardware import simulate

SPIKE, LAST, BARE, END = (1, 0), (1, 1), (0, 1), (0, 0)
"""Tokens: whether they are a spike, and whether a level closes behind them; an end of frame is neither."""

TOKENS = (SPIKE, LAST, BARE, END)


class Fork(wiring.Component):
    """The router's fork of a link to some readers."""

    def __init__(self, readers):
        self.readers = readers
        super().__init__({"valid": In(1), "ready": Out(1), "offered": Out(readers), "taken": In(readers)})

    def elaborate(self, platform):
        m = Module()
        branches = [Branch(self.offered[n], self.taken[n]) for n in range(self.readers)]
        fork(m, "link", self.valid, self.ready, branches)
        return m


def fork_table(component):
    """From the readers that have a token, and those that are ready: those it is offered to, those that have it after, passed."""
    found, readers = {}, component.readers

    async def tabulate(ctx):
        everyone = (1 << readers) - 1
        for had, ready in product(range(everyone), range(everyone + 1)):
            # Clear it, give the token to those that are to have it, and look.
            ctx.set(component.valid, 1)
            ctx.set(component.taken, everyone)
            await ctx.tick()
            ctx.set(component.taken, had)
            if had:
                await ctx.tick()
            ctx.set(component.taken, 0)
            await ctx.delay(1e-8)
            assert readers == 1 or ctx.get(component.offered) == everyone & ~had
            ctx.set(component.taken, ready)
            await ctx.delay(1e-8)
            offered, passes = ctx.get(component.offered), ctx.get(component.ready)
            await ctx.tick()
            ctx.set(component.taken, 0)
            await ctx.delay(1e-8)
            has = 0 if passes else everyone & ~ctx.get(component.offered)
            found[had, ready] = offered, has, bool(passes)
        ctx.set(component.valid, 0)
        await ctx.delay(1e-8)
        assert ctx.get(component.offered) == 0

    simulate(component, tabulate)
    return found


def merge_table(component, inputs):
    """From whose turn it is, what each input offers and whether a token is taken: what leaves, which inputs give, whose turn."""
    found, streams = {}, [getattr(component, f"events_{n}") for n in range(inputs)]
    merged = component.merged

    def offer(ctx, tokens):
        for stream, token in zip(streams, tokens, strict=True):
            ctx.set(stream.valid, token is not None)
            spike, closes = token or END
            ctx.set(stream.payload, {"kind": Kind.SPIKE if spike else Kind.END, "closes": closes})

    async def tabulate(ctx):
        turn = 0
        for tokens in product((None, *TOKENS), repeat=inputs):
            for wanted, ready in product(range(inputs), (0, 1)):
                while turn != wanted:
                    # What closes brings the next turn.
                    ctx.set(merged.ready, 1)
                    offer(ctx, [BARE] * inputs)
                    await ctx.tick()
                    turn = (turn + 1) % inputs
                ctx.set(merged.ready, ready)
                offer(ctx, tokens)
                await ctx.delay(1e-8)
                closes = ctx.get(merged.payload.closes) if "closes" in merged.payload.shape().members else 0
                leaves = (int(ctx.get(merged.payload.kind) == Kind.SPIKE), closes) if ctx.get(merged.valid) else None
                taken = [bool(ctx.get(each.ready)) for each in streams]
                gives = tuple(take and token is not None for take, token in zip(taken, tokens, strict=True))
                await ctx.tick()
                ctx.set(merged.ready, 1)
                offer(ctx, [BARE] * inputs)
                await ctx.delay(1e-8)
                turn = [bool(ctx.get(each.ready)) for each in streams].index(True)
                found[wanted, tokens, ready] = leaves, gives, turn

    simulate(component, tabulate)
    return found


def merge_of(inputs, *, ends_here=True):
    return OrderedMerge(shapes=[Shape(1, 1, 1)] * inputs, levels=1, ends_here=ends_here)


@pytest.mark.parametrize("readers", [2, 3])
def test_a_fork_gives_each_reader_each_token_once(readers):
    table, everyone = fork_table(Fork(readers)), (1 << readers) - 1
    assert len(table) == everyone * (everyone + 1)
    for (had, ready), (offered, has, passes) in table.items():
        assert offered == everyone & ~had
        assert passes == (had | ready == everyone)
        assert has == (0 if passes else had | ready)


def wanted_of_merge(turn, tokens, ready, *, ends_here):
    """By the definition: what leaves, which inputs give, whose turn is next; None in place of what leaves where that is open."""
    inputs = len(tokens)
    if all(token == END for token in tokens):
        return END, (bool(ready),) * inputs, turn
    token = tokens[turn]
    if token in (None, END):
        return None, (False,) * inputs, turn
    spike, closes = token
    leaves = (spike, closes if turn == inputs - 1 and not ends_here else 0)
    leaves = None if leaves == END else leaves
    gives = bool(ready) or leaves is None
    following = (turn + 1) % inputs if gives and closes else turn
    return leaves, tuple(gives and n == turn for n in range(inputs)), following


@pytest.mark.parametrize(("inputs", "ends_here"), [(2, True), (2, False), (3, True)])
def test_a_merge_takes_turns(inputs, ends_here):
    """In each state, for all that its inputs offer: nothing is lost, nothing twice, nothing out of turn."""
    table = merge_table(merge_of(inputs, ends_here=ends_here), inputs)
    assert len(table) == inputs * 5**inputs * 2
    for (turn, tokens, ready), found in table.items():
        assert found == wanted_of_merge(turn, tokens, ready, ends_here=ends_here), (turn, tokens, ready)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_fifo_is_a_queue(depth):
    """From each of its states, as many tokens at each place of its memory, by each of what may happen."""
    component, seen = SyncFIFO(width=8, depth=depth), set()

    async def check(ctx):
        number, held, place = 0, deque(), 0

        async def cycle(puts, takes):
            nonlocal number, place
            number = (number + 1) % 256
            ctx.set(component.w_en, puts)
            ctx.set(component.w_data, number)
            ctx.set(component.r_en, takes)
            await ctx.delay(1e-8)
            assert (ctx.get(component.w_rdy), ctx.get(component.r_rdy)) == (len(held) < depth, len(held) > 0)
            assert not held or ctx.get(component.r_data) == held[0]
            seen.add((place, len(held), puts, takes))
            room = len(held) < depth
            if takes and held:
                held.popleft()
                place = (place + 1) % depth
            if puts and room:
                held.append(number)
            await ctx.tick()

        for start, level, puts, takes in product(range(depth), range(depth + 1), (0, 1), (0, 1)):
            while held:
                await cycle(0, 1)
            while place != start:
                await cycle(1, 0)
                await cycle(0, 1)
            for _ in range(level):
                await cycle(1, 0)
            await cycle(puts, takes)
        while held:
            await cycle(0, 1)

    simulate(component, check)
    assert len(seen) == depth * (depth + 1) * 4


@dataclass(frozen=True)
class Graph:
    """Abstract cores, each with its sources, the source of all being ``F``; ``passes`` are those that pass barriers on, with a
    spike or alone, by ``closing``.

    ``late`` plants a fault: cores after the source close behind an event only when the next one is there.
    """

    cores: dict[str, tuple[str, ...]]
    passes: frozenset[str]
    depth: int
    closing: tuple[tuple[int, int], ...] = (LAST, BARE)
    ends: bool = False
    late: bool = False
    merges: dict = field(default_factory=dict)
    forks: dict = field(default_factory=dict)

    def __post_init__(self):
        for name, sources in self.cores.items():
            if len(sources) > 1:
                key = len(sources), name not in self.passes
                self.merges[name] = merge_table(merge_of(key[0], ends_here=key[1]), key[0])
        for link in ("F", *self.cores):
            readers = self.readers(link)
            if len(readers) > 1:
                self.forks[link] = fork_table(Fork(len(readers)))

    def readers(self, link):
        return [(name, n) for name, sources in self.cores.items() for n, source in enumerate(sources) if source == link]


class State(NamedTuple):
    """What the source offers, who has the token of each link, what each core has in hand, its FIFO, and whose turn it is."""

    offered: tuple[int, int] | None
    taken: tuple[int, ...]
    held: tuple[tuple[int, int] | None, ...]
    queues: tuple[tuple[tuple[int, int], ...], ...]
    turns: tuple[int, ...]


def step(graph, state, offers, does, ready):
    """A clock edge. ``offers``: what the source adds if it has nothing; ``does``: what each core does; ``ready``: the sinks."""
    names = list(graph.cores)
    offered = state.offered or offers
    heads = {"F": offered, **{name: queue[0] if queue else None for name, queue in zip(names, state.queues, strict=True)}}
    links = ["F", *names]
    # What each input is offered: of the fork's own link each spike closes.
    at_input, places = {}, {}
    for link, taken in zip(links, state.taken, strict=True):
        for place, (name, n) in enumerate(graph.readers(link)):
            token = None if taken >> place & 1 else heads[link]
            at_input[name, n] = LAST if link == "F" and token == SPIKE else token
            places[name, n] = link, place
    gives, takes, turns = {}, {}, list(state.turns)
    for index, name in enumerate(names):
        sources, idle = graph.cores[name], state.held[index] is None
        tokens = tuple(at_input[name, n] for n in range(len(sources)))
        if name in graph.merges:
            leaves, given, turns[index] = graph.merges[name][turns[index], tokens, int(idle)]
            takes[name] = leaves if idle else None
            gives |= {(name, n): gave for n, gave in enumerate(given)}
        else:
            takes[name] = tokens[0] if idle else None
            gives[name, 0] = idle and tokens[0] is not None
    taken, passed = [], {}
    for link, had in zip(links, state.taken, strict=True):
        readers = graph.readers(link)
        if not readers:
            passed[link] = ready and heads[link] is not None
            taken.append(0)
            continue
        now = sum(gives[reader] << place for place, reader in enumerate(readers))
        if heads[link] is None:
            has, passed[link] = had, False
        elif len(readers) == 1:
            has, passed[link] = 0, bool(now)
        else:
            _, has, passed[link] = graph.forks[link][had, now]
        taken.append(has)
    held, queues = [], []
    for index, name in enumerate(names):
        queue, hand = state.queues[index], state.held[index]
        send, keeps = None, hand
        if hand is not None and does[index] is not None and len(queue) < graph.depth:
            token, finishes = does[index]
            send, keeps = token, None if finishes else hand
        queues.append((queue[1:] if passed[name] else queue) + ((send,) if send else ()))
        held.append(takes[name] if hand is None else keeps)
    return State(None if passed["F"] else offered, tuple(taken), tuple(held), tuple(queues), tuple(turns))


def doings(graph, state, index):
    """What a core may do with what it has in hand: wait (None), or send a token or none, and finish or not; last, to finish."""
    name, hand = list(graph.cores)[index], state.held[index]
    if hand is None:
        return [None]
    if hand == END:
        return [None, (END, True)]
    finishing = [(None, True)]
    if hand[1] and name in graph.passes:
        finishing = [(token, True) for token in graph.closing]
    if graph.late and graph.cores[name] == ("F",):
        place = graph.readers("F").index((name, 0))
        if state.offered is None or state.taken[0] >> place & 1:
            finishing = []
    return [None, (SPIKE, False), *finishing] if finishing else [None]


def explore(graph):
    """Visit all states that are reached; gives how many, and one where all is stuck with something on its way, if any is."""
    cores = range(len(graph.cores))
    first = State(None, (0,) * (1 + len(cores)), (None,) * len(cores), ((),) * len(cores), (0,) * len(cores))
    seen, waiting = {first}, deque([first])
    sources = [None, SPIKE, *([END] if graph.ends else [])]
    while waiting:
        state = waiting.popleft()
        every = [doings(graph, state, index) for index in cores]
        pending = state.offered or any(state.queues) or any(hand is not None for hand in state.held)
        if pending and step(graph, state, None, [may[-1] for may in every], True) == state:
            return len(seen), state
        for offers in sources if state.offered is None else [None]:
            for does, ready in product(product(*every), (False, True)):
                after = step(graph, state, offers, does, ready)
                if after not in seen:
                    seen.add(after)
                    waiting.append(after)
    return len(seen), None


PAIR = {"a": ("F",), "b": ("F",), "out": ("a", "b")}

FREE = {
    "pair": (PAIR, "ab"),
    "shortcut": ({"a": ("F",), "out": ("F", "a")}, "a"),
    "shortcut-last": ({"a": ("F",), "out": ("a", "F")}, "a"),
    "twice": ({"out": ("F", "F")}, ""),
    "side": ({"a": ("F",), "side": ("F",), "out": ("a", "F")}, "a"),
}


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        *((name, depth) for name in FREE for depth in (1, 2) if (name, depth) != ("pair", 2)),
        *(pytest.param("pair", depth, marks=pytest.mark.full) for depth in (2, 3, 4)),
    ],
)
def test_nothing_waits_for_ever(name, depth):
    cores, passes = FREE[name]
    closing = (LAST, BARE) if depth < 3 else (BARE,)
    states, stuck = explore(Graph(cores, frozenset(passes), depth, closing=closing, ends=depth < 3))
    assert stuck is None
    assert states > 10


@pytest.mark.full
@pytest.mark.parametrize(
    ("cores", "passes"),
    [
        ({"a": ("F",), "b": ("F",), "c": ("F",), "out": ("c", "a", "b")}, "abc"),
        ({"a": ("F",), "b": ("a",), "out": ("b", "F")}, "ab"),
        ({"a": ("F",), "b": ("F",), "c": ("a", "b"), "out": ("c", "F")}, "abc"),
        ({"a": ("F",), "b": ("F",), "c": ("a", "b"), "out": ("F", "c")}, "abc"),
    ],
    ids=["three ways", "a way of two", "merge after merge", "first the shortcut"],
)
def test_nothing_waits_for_ever_in_larger_graphs(cores, passes):
    states, stuck = explore(Graph(cores, frozenset(passes), 1, closing=(BARE,)))
    assert stuck is None
    assert states > 20


@pytest.mark.parametrize(
    ("cores", "passes"),
    [
        ({"a": ("F",), "out": ("a", "a", "F")}, "a"),
        ({"a": ("F",), "b": ("a", "F"), "out": ("a", "b")}, "ab"),
    ],
    ids=["twice", "dense"],
)
@pytest.mark.parametrize("depth", [1, 3])
def test_what_is_entangled_gets_stuck_without_queues(cores, passes, depth):
    """A merge waits for more of one way, and does not yet take what another reader has to have first; there is no end to what an
    abstract core may fire for an event."""
    _, stuck = explore(Graph(cores, frozenset(passes), depth, closing=(BARE,)))
    assert stuck is not None
    assert any(stuck.taken)


def test_a_barrier_that_does_not_follow_its_event_at_once_is_found():
    _, stuck = explore(Graph(PAIR, frozenset("ab"), 1, late=True))
    assert stuck is not None and any(hand is not None for hand in stuck.held)


class Forgetful(Fork):
    """A fork that does not know who has its token: one who was first takes it again."""

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()
        m.d.comb += [self.offered.eq(self.valid.replicate(self.readers)), self.ready.eq(self.taken.all())]
        return m


class Impatient(OrderedMerge):
    """A merge that passes to the next input when the one whose turn it is has nothing."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        first, second = self.events_0, self.events_1
        with m.If(~first.valid & second.valid & (second.payload.kind == Kind.SPIKE)):
            m.d.comb += [self.merged.valid.eq(1), self.merged.payload.kind.eq(Kind.SPIKE), second.ready.eq(self.merged.ready)]
        return m


def test_planted_faults_are_found():
    with pytest.raises(AssertionError):
        fork_table(Forgetful(2))
    table = merge_table(Impatient(shapes=[Shape(1, 1, 1)] * 2, levels=1, ends_here=True), 2)
    wrong = [at for at, found in table.items() if found != wanted_of_merge(*at, ends_here=True)]
    assert wrong and all(turn == 0 and tokens[0] is None and tokens[1] in (SPIKE, LAST) for turn, tokens, _ in wrong)
