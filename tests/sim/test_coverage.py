"""Which of the rare things happened in a run, against numbers worked out by hand."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from model.engine.engine import run_fast
from model.events import make_events
from model.golden import run
from model.machine.named_plans import named_plan
from model.machine.simulate import simulate
from model.network import Convolution, ConvolutionProjection, Linear, MaxPool, Network, Padding, Shape
from model.neuron import update
from sim.coverage import CoreCoverage, Coverage, coverage, layers_covered
from sim.generators.frames import random_frames
from sim.generators.graphs import random_graph
from sim.generators.networks import mixed, random_network


def covered(network, plan, frames, **options):
    traces = [run_fast(network, events) for events in frames]
    return coverage(network, plan, traces, simulate(network, plan, frames, **options))


def linear(weights, *, name="fc", source="input", **options):
    weights = np.array(weights)
    options = {"threshold_log2": 4, "bias": np.zeros(len(weights), int), **options}
    return Linear(name=name, source=source, weights=weights, **options)


def of_inputs(*layers, shape=(1, 1, 2), **options):
    return Network(name="covered", input_shape=shape, layers=layers, **options)


def only(layers):
    """The fields of the only layer that are not 0."""
    (layer,) = layers
    return {name: value for name, value in asdict(layer).items() if value and name != "layer"}


QUIET = of_inputs(linear([[20, 3], [1, 2]]))
"""Two neurons of threshold 16: an event of input 0 fires the first once, from 20 with 4 left."""

QUIET_PLAN = named_plan(QUIET, "minimal")

ONE_CLASS = {"border_classes": 1, "border_classes_used": 1}


def test_none_of_it():
    found = covered(QUIET, QUIET_PLAN, [make_events([0, 1]), make_events([1])])
    assert only(found.layers) == {**ONE_CLASS}
    assert (found.frames, found.input_spikes_of_higher_levels) == (2, 0)
    assert found.cores == (CoreCoverage(core="fc", generation_wraps=0, stalled_cycles=0),)
    assert found.summary() == "none of the rare things"
    assert Coverage.of(json.loads(json.dumps(asdict(found)))) == found


def test_the_state_at_rest():
    """Biases of 40 and -40 above a threshold of 16 are counts of 2 and, without an activation, -2."""
    network = of_inputs(linear([[1, 1]] * 3, bias=np.array([40, -40, 15]), activation="identity"), rest=True)
    found = covered(network, named_plan(network, "minimal"), [make_events([0])] * 3)
    assert only(found.layers) == {"rest_neurons": 2, "rest_spikes_saved": 12, **ONE_CLASS}
    assert found.summary() == "12 spikes saved by the state at rest"


def test_bursts():
    """60 is three thresholds and 12: an update fires three, at once. The next event's 4 more make it another one."""
    network = of_inputs(linear([[60, 4]], burst=0))
    traces = [run_fast(network, make_events([0, 1])), run_fast(network, make_events([1, 0]))]
    assert [trace.layers["fc"].spikes["cause"].tolist() for trace in traces] == [[0, 0, 0, 1], [1, 1, 1, 1]]
    assert only(layers_covered(network, traces)) == {"burst_updates": 2, **ONE_CLASS}


def test_flushes():
    """A flush after every event and one at the end: of a threshold of 16, and events of 20 or 3."""
    network = replace(QUIET, firing="deferred", flush_events=1)
    # 20, 40, 60, 80: one, one, one, two thresholds; nothing is left for the end.
    several = layers_covered(network, [run_fast(network, make_events([0, 0, 0, 0]))])
    assert only(several) == {"flushes": 5, "empty_flushes": 1, "burst_updates": 1, **ONE_CLASS}
    # 20, 23, 43: one, none, one, none; and the end of a frame without an event.
    found = layers_covered(network, [run_fast(network, make_events(addresses)) for addresses in ([0, 1, 0], [])])
    assert only(found) == {"flushes": 5, "empty_flushes": 3, **ONE_CLASS}


@pytest.mark.parametrize(
    ("addresses", "used"),
    # An event reaches the positions around it: at a corner, and next to one, those of four classes.
    [([0], 4), ([0, 4], 6), ([12], 1), ([6], 4), ([0, 24], 7)],
)
def test_border_classes(addresses, used):
    """Of 5 x 5 positions those at each edge and each corner start otherwise than those inside: nine classes."""
    bias = np.zeros((5, 5, 1), int)
    bias[0], bias[-1] = 3, 5
    bias[:, 0] += 10
    bias[:, -1] += 20
    layer = Convolution(
        name="conv", source="input", weights=np.ones((1, 1, 3, 3), int), bias=bias, threshold_log2=4, padding=Padding(1, 1, 1, 1)
    )
    network = of_inputs(layer, shape=Shape(5, 5, 1))
    found = covered(network, named_plan(network, "minimal"), [make_events(addresses[:1]), make_events(addresses[1:])])
    assert only(found.layers) == {"border_classes": 9, "border_classes_used": used}
    deferred = replace(network, firing="deferred")
    assert only(covered(deferred, named_plan(deferred, "minimal"), [make_events([])]).layers)["border_classes_used"] == 9


def test_saturation():
    """Of 8 bits, the residual ends at -128: two events of -100 do not fit. A count of 1 bit ends at 1."""
    network = of_inputs(linear([[-100, 0], [20, 0]], potential_bits=8, count_bits=1))
    found = covered(network, named_plan(network, "minimal"), [make_events([0, 0, 0])])
    # Second neuron: 20 fires; 24 and 44 are above 16, and fire nothing.
    assert only(found.layers) == {
        "residual_saturations": 2, "count_saturations": 2, **ONE_CLASS
    }  # fmt: skip
    deferred = replace(network, firing="deferred")
    # Now the sums are -200, which does not fit, and 40, which is two thresholds.
    found = covered(deferred, named_plan(deferred, "minimal"), [make_events([0, 0])])
    assert only(found.layers) == {
        "residual_saturations": 1, "count_saturations": 1, "flushes": 1, **ONE_CLASS
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_saturation_of_random_networks(seed):
    """Both kinds, an update may be of both: against the golden neuron's own word, which does not tell them apart."""
    several = (mixed(seed, rest=True), mixed(seed, rest=True, burst=2), mixed(seed, firing="deferred"))
    graphs = [random_graph(seed, firing=firing) for firing in ("immediate", "deferred")]
    for network in (random_network(seed), *several, *graphs):
        traces = [run(network, events) for events in random_frames(network.input_shape, seed, frames=2, events=60)]
        for layer in layers_covered(network, traces):
            union = sum(trace.layers[layer.layer].saturated_updates for trace in traces)
            kinds = (layer.residual_saturations, layer.count_saturations)
            assert max(kinds) <= union <= sum(kinds)


def test_positions_that_any_input_updates():
    """Of 3 x 3 positions of nine classes the input's window reaches the upper rows, that of the layer before the lower ones."""
    numbers = {"threshold_log2": 1, "bias": np.zeros(1, int)}
    ones = Convolution(name="ones", source="input", weights=np.full((1, 1, 1, 1), 2), **numbers)
    below = ConvolutionProjection(source="ones", weights=np.ones((1, 1, 3, 3), int), padding=Padding(2, 1, 0, 1))
    merge = Convolution(
        name="merge", source="input", weights=np.ones((1, 1, 3, 3), int), padding=Padding(1, 1, 1, 1), threshold_log2=6,
        bias=np.arange(9).reshape(3, 3, 1), joined=(below,),
    )  # fmt: skip
    network = of_inputs(ones, merge, shape=Shape(3, 3, 1))
    for addresses, used in (([1], 9), ([0], 6), ([6], 4)):
        assert layers_covered(network, [run(network, make_events(addresses))])[1].border_classes_used == used
    assert layers_covered(network, [run(network, make_events([]))])[1].border_classes == 9


def test_a_neuron_that_saturates_both_ways_is_of_both_kinds():
    layer = linear([[127, 0]], potential_bits=8, count_bits=1)
    V, Q, count = np.array(0), np.array(0), 0
    for _ in range(2):
        V, Q, _, saturated = update(layer, V, Q, np.array(127))
        count += int(saturated)
    assert count == 1
    network = of_inputs(layer)
    found = only(covered(network, named_plan(network, "minimal"), [make_events([0, 0])]).layers)
    assert (found["residual_saturations"], found["count_saturations"]) == (1, 1)


def test_input_levels_and_generations():
    """Tags of 1 bit are swept after each frame, of 2 bits after three."""
    frames = [make_events([0, 0, 1]), make_events([1, 1, 1]), make_events([0, 0, 0], [1, -1, 1]), make_events([0])]
    for bits, wraps in ((1, 4), (2, 1), (3, 0)):
        plan = replace(QUIET_PLAN, cores=tuple(replace(core, generation_bits=bits) for core in QUIET_PLAN.cores))
        found = covered(QUIET, plan, frames)
        assert [core.generation_wraps for core in found.cores] == [wraps]
        assert found.input_spikes_of_higher_levels == 1 + 2 + 1


def test_stalls():
    network = random_network(1)
    frames = random_frames(network.input_shape, 1, frames=6)
    found = covered(network, named_plan(network, "fast"), frames, stall=50_000)
    assert sum(core.stalled_cycles for core in found.cores) > 0
    assert "stalled cycles" in found.summary()
    assert isinstance(network.layers[1], MaxPool) and found.layers[1].border_classes == 0
