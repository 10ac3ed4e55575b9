"""Barriers: where they are needed, and that with them each merge takes its events in the order of its definition."""

import re
from dataclasses import replace

import numpy as np
import pytest

from model.engine.engine import merged, run_streams
from model.events import make_events
from model.machine.barrier_schedule import schedules, tokens_of
from model.machine.barrier_tokens import BARE, given, inputs_of, leaving, of_streams, take
from model.machine.barriers import barred, carried, closed, entangled, own_level, taken_levels
from model.machine.capability import check_machine_can
from model.machine.checks import check_plan
from model.machine.named_plans import named_plan
from model.machine.plan import PlanError
from model.machine.simulate import simulate
from model.machine.stages import stages
from model.machine.turns import joins, most_in_turn
from model.network import INPUT, Linear, Network, Shape
from model.projection import LinearProjection
from sim.generators.frames import random_frames
from sim.generators.graphs import nested_graph, random_graph
from tests.graphs import residual_block


def graph(**sources):
    """A network of small linear layers, each with the sources given by name, the last one its output."""
    layers = []
    for name, of in sources.items():
        first, *joined = (LinearProjection(source=source, weights=np.full((2, 2), 4)) for source in of.split())
        layers.append(
            Linear(
                name=name, source=first.source, weights=first.weights, bias=np.zeros(2, int), threshold_log2=2,
                joined=tuple(joined), activation="identity",
            )
        )  # fmt: skip
    return Network(name="graph", input_shape=Shape(1, 1, 2), layers=tuple(layers), firing="immediate")


NESTED = graph(f="input", a="f", b="a", c="a", d="b c", e="f d", side="f", out="e input")
"""Three forks, one within the other: of ``d``, whose events pass on the way to ``e``, of ``e``, and of ``out``."""


def test_a_link_carries_what_a_merge_after_it_needs():
    assert carried(NESTED) == {
        INPUT: (), "f": (INPUT,), "a": (INPUT, "f"), "b": (INPUT, "f", "a"), "c": (INPUT, "f", "a"), "d": (INPUT, "f"),
        "e": (INPUT,), "side": (), "out": (),
    }  # fmt: skip
    assert [taken_levels(NESTED, NESTED.layer(name)) for name in ("b", "d", "e", "side", "out")] == [
        (INPUT, "f", "a"), (INPUT, "f", "a"), (INPUT, "f"), (), (INPUT,),
    ]  # fmt: skip
    assert [own_level(NESTED, NESTED.layer(name)) for name in ("b", "d", "e", "out")] == [0, 1, 1, 1]


def test_a_core_is_told_of_what_it_needs():
    """An event of a fork closes its own level, even where it says nothing; who needs no barriers of a link is told of none."""
    told = {(source, name): closed(NESTED, source, NESTED.layer(name)) for name in carried(NESTED) if name != INPUT
            for source in NESTED.layer(name).sources}  # fmt: skip
    assert told[INPUT, "f"] == (1,) and told[INPUT, "out"] == (1,)
    assert told["f", "a"] == (1, 2) and told["f", "e"] == (1, 2) and told["f", "side"] == (0, 0)
    assert told["a", "b"] == told["a", "c"] == (1, 2, 3)
    assert told["b", "d"] == (0, 1, 2, 3) and told["d", "e"] == (0, 1, 2) and told["e", "out"] == (0, 1)


def test_a_level_passes_a_merge_of_its_own_fork_where_another_follows():
    network = graph(a="input", b="input", c="a b", d="c input", out="d")
    assert carried(network) == {INPUT: (), "a": (INPUT,), "b": (INPUT,), "c": (INPUT,), "d": (), "out": ()}
    assert [own_level(network, network.layer(name)) for name in ("c", "d")] == [0, 1]
    assert entangled(network) is None


def test_none_where_nothing_is_merged_or_its_order_means_nothing():
    chain, deferred = graph(a="input", out="a"), replace(NESTED, firing="deferred")
    for network in (chain, deferred):
        assert not barred(network) and entangled(network) is None
        assert set(carried(network).values()) == {()}
        assert not any(taken_levels(network, layer) for layer in network.layers)


def test_what_leaves_closes_behind_the_last_spike_or_alone():
    found = leaving(np.array([2, 0, 0, 1]), np.array([1, 0, 2, 0]), np.array([0, 0, 1, 1]))
    assert (found.spike.tolist(), found.closes.tolist()) == ([0, 1, BARE, 2], [0, 1, 2, 0])
    assert found.frame.tolist() == [0, 0, 1, 1]
    nothing = leaving(*(np.zeros(0, np.int64) for _ in range(3)))
    assert len(nothing.spike) == 0


def in_order(network, streams, tokens):
    """Each merge takes its events in the order of the definition; returns how many were taken at merges."""
    taken, events = {}, 0
    for layer in network.layers:
        taken[layer.name] = wanted = merged(network, layer, streams, taken)
        if len(layer.sources) > 1:
            found = take(network, layer, tokens)
            fires = found.merged.spike != BARE
            number, index = found.number[fires], found.index[fires]
            assert number.tolist() == wanted.number.tolist()
            spikes = [int(found.inputs[n].spike[i]) for n, i in zip(number, index, strict=True)]
            assert spikes == wanted.index.tolist()
            assert found.merged.spike[fires].tolist() == list(range(len(spikes)))
            events += len(spikes)
    return events


@pytest.mark.parametrize("make", [random_graph, nested_graph])
def test_the_order_is_that_of_the_definition(make):
    """Of entangled graphs too: what these lack is room, not order."""
    events = 0
    for seed in range(12):
        network = make(seed, plain=True) if make is random_graph else make(seed)
        streams = run_streams(network, random_frames(network.input_shape, seed, frames=2, events=6))
        events += in_order(network, streams, of_streams(network, streams))
    assert events > 500


@pytest.mark.parametrize("name", ["minimal", "fast"])
def test_the_order_does_not_depend_on_where_cores_send_barriers(name):
    """With few lanes a barrier goes alone more often, and a fork's own then is one more, of nothing: all branches have it."""
    for seed in (1, 4):
        network = nested_graph(seed)
        streams = run_streams(network, random_frames(network.input_shape, seed, frames=2, events=6))
        cores, plan = stages(network), named_plan(network, name)
        tokens = {INPUT: inputs_of(streams[INPUT]), **tokens_of(network, plan, streams)}
        assert in_order(network, streams, tokens) > 30
        for stage, found in zip(cores, schedules(network, plan, cores, streams), strict=True):
            assert found.leaving is not None and found.tokens.sum() == len(found.leaving.spike) + len(streams[INPUT].starts) - 1
            assert (found.leaving.spike != BARE).sum() == len(streams[stage.name].address)


@pytest.mark.parametrize(
    ("network", "where"),
    [
        (graph(a="input", b="input", m="a b", n="b a", out="m n"), ("a", "m", "n")),
        (graph(a="input", b="a input", out="input a b"), ("a", "b", "out")),
        (graph(a="input", out="a a input"), ("a", "out", "out")),
        (graph(f="input", a="f", b="f", c="a b", d="b", out="c d"), ("b", "c", "out")),
    ],
    ids=["crossing", "dense", "twice", "bridge"],
)
def test_what_is_entangled_has_queues(network, where):
    """In front of each input of a merge but the first, for all that an event of its fork may cause there."""
    assert entangled(network) == where
    needed = joins(network)
    assert needed and all(len(network.layer(name).sources) > 1 for name in needed)
    for name in ("minimal", "fast"):
        plan = named_plan(network, name)
        assert {core.layer: core.join_fifo for core in plan.cores if core.join_fifo} == needed
        short = plan.core(next(iter(needed)))
        cores = tuple(replace(core, join_fifo=core.join_fifo - 1) if core is short else core for core in plan.cores)
        message = (
            f"plan {name!r}: core {short.layer!r}: join_fifo must be at least {short.join_fifo}, as many events of an input as "
            f"one of {network.fork(short.layer)!r} may cause, or the machine could hang; not {short.join_fifo - 1}"
        )
        with pytest.raises(PlanError, match=f"^{re.escape(message)}$"):
            check_plan(network, replace(plan, cores=cores))
    assert joins(replace(network, firing="deferred")) == {}


def test_what_an_event_may_cause_is_bounded():
    """An event reaches both neurons of a layer, each of which fires once, and a barrier: three tokens for each that is taken."""
    network = graph(a="input", b="a input", out="input a b")
    assert most_in_turn(network, INPUT) == {INPUT: 1, "a": 3, "b": 12, "out": 48}
    assert most_in_turn(network, "a") == {"a": 1}
    assert joins(network) == {"out": 12}
    for seed in (1, 2, 3, 7):
        network = random_graph(seed, plain=True)
        streams = run_streams(network, random_frames(network.input_shape, seed, frames=2, events=6))
        for tokens in (of_streams(network, streams), tokens_of(network, named_plan(network, "minimal"), streams)):
            for layer in network.layers:
                for source in layer.sources if len(layer.sources) > 1 and layer.name in tokens else ():
                    if source in tokens and source != INPUT:
                        found, _ = given(network, source, layer, tokens[source])
                        # Turns end with what closes the merge's own level.
                        turn = np.cumsum(found.closes > 0) - (found.closes > 0)
                        most = most_in_turn(network, network.fork(layer.name))[source]
                        assert np.bincount(turn).max(initial=0) <= most


@pytest.mark.parametrize("more", [0, 1])
def test_a_link_with_barriers_has_not_too_many_readers(more):
    network = graph(f="input", **{f"r{n}": "f" for n in range(59 + more)}, out="r0 f")
    if more:
        plan = named_plan(replace(network, firing="deferred"), "minimal")
        message = (
            "layer 'f': inputs that read it must be at most 60 in a pipeline of a network with merges that fires immediate, "
            "not 61; convert with --firing deferred"
        )
        with pytest.raises(PlanError, match=f"^{message}$"):
            check_plan(network, plan)
        check_plan(replace(network, firing="deferred"), plan)
    else:
        frames = random_frames(network.input_shape, 1, frames=3)
        assert simulate(network, named_plan(network, "minimal"), frames).frames == len(frames)


def test_more_than_a_queue_holds_is_refused():
    wide = {"threshold_log2": 2, "activation": "identity"}
    layers = [
        Linear(name="a", source=INPUT, weights=np.full((300, 1), 4), bias=np.zeros(300, int), **wide),
        Linear(
            name="b", source="a", weights=np.full((300, 300), 4), bias=np.zeros(300, int), **wide,
            joined=(LinearProjection(source=INPUT, weights=np.full((300, 1), 4)),),
        ),
        Linear(
            name="out", source="a", weights=np.full((2, 300), 4), bias=np.zeros(2, int), **wide,
            joined=(LinearProjection(source="b", weights=np.full((2, 300), 4)),),
        ),
    ]  # fmt: skip
    network = Network(name="dense", input_shape=Shape(1, 1, 1), layers=tuple(layers), firing="immediate")
    message = (
        "layer 'out': an event of 'input' may cause 90902 events of 'b', and the network fires immediate: a merge keeps 65536 at "
        "most; convert with --firing deferred"
    )
    with pytest.raises(PlanError, match=f"^{re.escape(message)}$"):
        check_machine_can(network)
    check_machine_can(replace(network, firing="deferred"))
    check_machine_can(network, folded=True)


def test_what_lies_one_within_the_other_is_not_entangled():
    twice = graph(a="input", b="a a", out="b")
    for network in (NESTED, twice, residual_block(), *map(nested_graph, range(40))):
        assert barred(network) or not network.branched
        assert entangled(network) is None


def test_an_empty_frame_has_no_barriers():
    streams = run_streams(NESTED, [make_events([])] * 2)
    assert all(len(tokens.spike) == 0 for tokens in of_streams(NESTED, streams).values())
