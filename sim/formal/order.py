"""What every FIFO and buffer is: each token leaves once, as it came, in order, is held until it is taken, and soon."""

from typing import Any, NamedTuple

from amaranth.hdl import Mux, Signal, Value

from sim.formal.bench import Bench

__all__ = ["Watched", "in_order"]


class Watched(NamedTuple):
    """What is known of the tokens within a queue: for lemmas of its inside."""

    level: Signal
    """How many there are."""
    one: Signal
    """Whether the watched one is among them."""
    ahead: Signal
    """How many leave before the watched one."""
    token: Signal
    """The watched one."""
    starves: Signal
    """For how many cycles there has been a token and none was given."""


def in_order(
    bench: Bench, taken: Any, given: Any, *, capacity: int, latency: int, full: int | None = None, fills: bool = True
) -> Watched:
    """State that ``given`` carries the tokens of ``taken``.

    Any one token is watched, together with the number of those that are within the queue when it enters. As many have to leave,
    and then the watched one does, unchanged. As it may be any, the n-th token that leaves is the n-th that entered, whatever the
    payloads and the stalls on both sides.

    Parameters
    ----------
    bench : Bench
        Where to state it.
    taken, given : stream.Interface
        Both ends.
    capacity : int
        Tokens for which there is room.
    latency : int
        Cycles from a token's entry into an empty queue until it is given, and at most for which none is given while there is one.
    full : int or None
        Tokens from which on it need not take another one; ``capacity`` by default.
    fills : bool
        Whether it is to be shown that it can be full.
    """
    m = bench.m
    token_in, token_out = Value.cast(taken.payload), Value.cast(given.payload)
    enters, leaves = Signal(name="enters"), Signal(name="leaves")
    level = Signal(range(capacity + 2), name="level")
    one, ahead = Signal(name="one"), Signal(range(capacity + 1), name="ahead")
    token = Signal(len(token_in), name="token")
    starves = Signal(range(latency + 2), name="starves")
    m.d.comb += [enters.eq(taken.valid & taken.ready), leaves.eq(given.valid & given.ready)]
    m.d.sync += level.eq(level + enters - leaves)
    with m.If(enters & ~one & bench.any(1, "watch")):
        m.d.sync += [one.eq(1), ahead.eq(level - leaves), token.eq(token_in)]
    with m.Elif(one & leaves):
        m.d.sync += [one.eq(ahead != 0), ahead.eq(ahead - (ahead != 0))]
    m.d.sync += starves.eq(Mux((level != 0) & ~given.valid, starves + 1, 0))

    # None is given that was not taken; each leaves in its turn, as it came.
    bench.holds(~given.valid | (level != 0))
    bench.holds(~(one & (ahead == 0) & given.valid) | (token_out == token))
    # What is offered stays until it is taken.
    waited = bench.before(given.valid & ~given.ready, "given_waits")
    bench.holds(~waited | (given.valid & (token_out == bench.before(token_out, "given_payload"))))
    # It takes what it has room for, and gives what it has.
    bench.holds(level <= capacity)
    bench.holds(taken.ready | (level >= (capacity if full is None else full)))
    bench.holds(starves < latency)

    bench.lemma(~one | (ahead < level))
    if fills:
        bench.reaches((level == capacity) & one & (ahead == capacity - 1))
        bench.reaches(one & (ahead == 0) & leaves & (enters | (capacity == 1)))
    return Watched(level=level, one=one, ahead=ahead, token=token, starves=starves)
