"""Networks that are graphs: the order at a merge, and golden model, engine and quantized network on random ones."""

import itertools
import json
import re
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from model.conversion.quantized import counts_of_layers
from model.conversion.quantized_frames import QuantizedFrames
from model.encode import encode
from model.engine.engine import run_fast, run_frames
from model.events import make_events
from model.golden import run
from model.machine.named_plans import named_plan
from model.machine.plan import PlanError
from model.network import INPUT, Convolution, Linear, MaxPool, Network, Transposed
from model.projection import ConvolutionProjection, Padding, Shape, TransposedProjection
from model.support.errors import NetworkError
from sim.generators.frames import random_events
from sim.generators.graphs import random_graph
from tests.graphs import residual_block

MANY = 9850

KIND = "layer 'block1', input 1: kind must be one of ['convolution', 'linear', 'transposed']"


def one_to_one(name, source, joined=(), channels=1, **more):
    """Neurons that pass on what they take: weights of one threshold."""
    weights = np.full((channels, 1, 1, 1), 4)
    inputs = tuple(ConvolutionProjection(source=each, weights=weights, groups=channels) for each in joined)
    return Convolution(
        name=name, source=source, weights=weights, bias=np.zeros(channels, np.int64),
        threshold_log2=2, groups=channels, joined=inputs, activation="identity", **more,
    )  # fmt: skip


def described(events):
    return events["address"].tolist()


def test_order_at_a_merge():
    """For each event of the fork, all that it caused of the first input, then of the second."""
    twice = Convolution(
        name="twice", source=INPUT, weights=np.full((2, 1, 1, 1), 4), bias=np.zeros(2, np.int64), threshold_log2=2
    )
    network = Network(
        name="diamond",
        input_shape=(1, 2, 1),
        layers=(
            twice,
            one_to_one("left", "twice", channels=2),
            one_to_one("right", "twice", channels=2),
            one_to_one("merge", "left", ("right",), channels=2),
        ),
    )
    frame = np.array([[[100], [200]]], np.uint8)
    trace = run(network, encode(network, frame))
    # The brighter pixel at the right comes first; twice sends two events for it, each of which forks.
    assert described(trace.layers["twice"].spikes) == [2, 3, 0, 1]
    assert [network.fork(name) for name in ("twice", "left", "right", "merge")] == [INPUT, "twice", "twice", "twice"]
    # Of the four addresses of the second input each is four more.
    assert described(trace.layers["merge"].events) == [2, 6, 3, 7, 0, 4, 1, 5]
    # Where the input itself is the fork, both events of twice come before those of the shortcut.
    shortcut = ConvolutionProjection(source=INPUT, weights=np.full((2, 1, 1, 1), 4))
    around = replace(network, layers=(twice, replace(one_to_one("merge", "twice", channels=2), joined=(shortcut,))))
    assert around.fork("merge") == INPUT
    assert described(run(around, encode(around, frame)).layers["merge"].events) == [2, 3, 5, 0, 1, 4]


def test_forks_are_immediate_dominators():
    """Against the definition: the nearest layer without which there is no path from the input."""
    seen = Counter()
    for seed in range(200):
        network = random_graph(seed)
        for layer in network.layers:
            others = [INPUT, *(each.name for each in network.layers if each is not layer)]
            dominators = [at for at in others if not path(network, layer.name, at)]
            assert network.fork(layer.name) == dominators[-1]
            seen[len(set(layer.sources)) > 1 and network.fork(layer.name) not in (INPUT, *layer.sources)] += 1
    assert min(seen.values()) > 20 and len(seen) == 2


def test_forks_of_many_layers_are_found_in_no_time():
    names = [INPUT, *(f"layer{at}" for at in range(1000))]
    layers = [one_to_one(name, before, (before,)) for before, name in itertools.pairwise(names)]
    network = Network(name="deep", input_shape=(1, 1, 1), layers=(*layers[:-1], replace(layers[-1], source="layer1")))
    began = time.process_time()
    assert [network.fork(name) for name in ("layer0", "layer500", "layer999")] == [INPUT, "layer499", "layer1"]
    assert [network.shape_of(layer.name) for layer in layers] == [(1, 1, 1)] * 1000
    assert time.process_time() - began < 1


def path(network, name, without):
    """Whether the input is reached upwards from a layer without passing another."""
    if without == INPUT:
        return False
    return name == INPUT or any(path(network, source, without) for source in network.layer(name).sources if source != without)


def same(network, events):
    golden, fast = run(network, events), run_fast(network, events)
    for name, expected in golden.layers.items():
        found = fast.layers[name]
        assert found.events.tolist() == expected.events.tolist(), name
        assert found.spikes.tolist() == expected.spikes.tolist(), name
        assert (found.potential == expected.potential).all(), name
        assert (found.count == expected.count).all(), name
        assert found.flushes == expected.flushes, name
        for field in ("operations", "saturated_updates", "saturated_events"):
            assert getattr(found, field) == getattr(expected, field), (name, field)
    return golden


def covered(seeds):
    """Golden model and engine on random graphs; what was met."""
    seen = Counter()
    for seed in seeds:
        network = random_graph(seed, firing=("immediate", "deferred")[seed % 2])
        trace = same(network, random_events(network.input_shape, seed))
        seen["merges"] += sum(len(layer.sources) > 1 for layer in network.layers)
        seen["twice"] += sum(len(set(layer.sources)) < len(layer.sources) for layer in network.layers)
        seen["inner forks"] += sum(len(la.sources) > 1 and network.fork(la.name) != INPUT for la in network.layers)
        seen["transposed"] += sum(isinstance(taker, TransposedProjection) for la in network.layers for taker in la.inputs)
        seen["pools"] += sum(isinstance(layer, MaxPool) for layer in network.layers)
        for layer in trace.layers.values():
            seen["spikes"] += len(layer.spikes)
            seen["negative"] += int((layer.spikes["sign"] < 0).sum())
            seen["saturated"] += layer.saturated_events
    return seen


@pytest.mark.parametrize("part", range(3))
def test_golden_model_and_engine_on_random_graphs(part):
    seen = covered(range(part * 50, part * 50 + 50))
    assert min(seen.values()) > 3 and len(seen) == 8, seen


def after_fork(network, trace, layer):
    """The layers from a layer's fork to it, as a network whose input the fork is, and the events that it takes."""
    fork = network.fork(layer.name)
    known, layers = {fork}, []
    for each in network.layers:
        if all(source in known for source in each.sources):
            known.add(each.name)
            renamed = {"source": INPUT if each.source == fork else each.source}
            if len(each.sources) > 1:
                renamed["joined"] = tuple(
                    replace(further, source=INPUT if further.source == fork else further.source) for further in each.joined
                )
            layers.append(replace(each, **renamed))
        if each is layer:
            break
    taken = trace.events if fork == INPUT else trace.layers[fork].spikes
    events = make_events(taken["address"], taken["sign"])
    return Network(name="part", input_shape=network.shape_of(fork), layers=tuple(layers)), events


def test_the_order_is_that_of_one_event_of_the_fork_after_the_other():
    """Against the definition: of a frame cut after each event of the fork, what is new of the first input, then of the second."""
    merges = Counter()
    for seed in range(20):
        network = replace(random_graph(seed), rest=False)
        trace = run(network, random_events(network.input_shape, seed, most=10))
        for layer in network.layers:
            if len(layer.sources) == 1:
                continue
            part, events = after_fork(network, trace, layer)
            events = events[:12]
            before = {source: 0 for source in layer.sources}
            expected = []
            for end in range(1, len(events) + 1):
                streams = {INPUT: events[:end]} | {name: each.spikes for name, each in run(part, events[:end]).layers.items()}
                now = {}
                for (taker, _, first), source in zip(part.inputs(part.output), layer.sources, strict=True):
                    stream = streams[taker.source]
                    now[source] = len(stream)
                    new = stream[before[source] :]
                    expected += [(int(each["address"]) + first, int(each["sign"])) for each in new]
                before = now
            found = trace.layers[layer.name].events
            assert list(zip(found["address"].tolist(), found["sign"].tolist(), strict=True))[: len(expected)] == expected
            merges[network.fork(layer.name) == INPUT] += len(expected)
    assert min(merges[True], merges[False]) > 100


@pytest.mark.full
@pytest.mark.parametrize("part", range(10))
def test_golden_model_and_engine_on_ten_thousand_random_graphs(part):
    each = MANY // 10
    seen = covered(range(150 + part * each, 150 + (part + 1) * each))
    assert min(seen.values()) > 100 and len(seen) == 8, seen


def quantized(seed):
    """Deferred, the spiking network is the quantized one; without events and with them."""
    network = replace(random_graph(seed, firing="deferred", wide=True), flush_events=0)
    images = np.random.default_rng(seed).integers(0, 256, (3, *network.input_shape), dtype=np.uint8)
    (expected,) = counts_of_layers(network, images)
    for frame, image in enumerate(images):
        trace = run(network, encode(network, image))
        for name, layer in trace.layers.items():
            assert (layer.count == expected[name][frame]).all(), name
    found, by_events = QuantizedFrames(images).run(network), run_frames(network, images)
    for name, value in vars(by_events).items():
        assert np.array_equal(getattr(found, name), value), name
    return int(np.abs(expected[network.output.name]).max())


def test_the_quantized_network_is_the_deferred_one():
    assert sum(quantized(seed) > 0 for seed in range(15)) > 11


@pytest.mark.full
@pytest.mark.parametrize("part", range(10))
def test_the_quantized_network_is_the_deferred_one_on_many_graphs(part):
    assert sum(quantized(seed) > 0 for seed in range(40 + part * 500, 40 + (part + 1) * 500)) > 400


@pytest.mark.parametrize("firing", ["immediate", "deferred"])
def test_file_form(tmp_path, firing):
    network = residual_block(firing)
    assert network.version == 3 and network.branched
    network.save(tmp_path / "net.npz")
    found = Network.load(tmp_path / "net.npz")
    assert found == network and found.content_hash == network.content_hash
    assert found.layer("block2").joined[0].stride == (2, 2)
    chain = replace(network, layers=(*network.layers[:2], replace(network.layers[2], joined=()), *network.layers[3:4]))
    assert chain.version == (1 if firing == "immediate" else 2) and not chain.branched
    for seed in range(50):
        graph = random_graph(seed, firing=firing)
        graph.save(tmp_path / "graph.npz")
        assert Network.load(tmp_path / "graph.npz") == graph


def test_a_residual_block_by_hand():
    """Potentials are those of the sums over both inputs."""
    network = residual_block("deferred")
    image = np.random.default_rng(1).integers(0, 256, (6, 6, 1), dtype=np.uint8)
    trace = run(network, encode(network, image))
    counts, inner, block = (trace.layers[name].count for name in ("stem", "inner1", "block1"))
    layer = network.layer("block1")
    padded = np.pad(inner, ((1, 1), (1, 1), (0, 0)))
    for y, x, c in np.ndindex(6, 6, 4):
        total = layer.bias[c] + 32 * counts[y, x, c]
        for dy, dx in np.ndindex(3, 3):
            total += (layer.weights[c, :, dy, dx] * padded[y + dy, x + dx]).sum()
        assert trace.layers["block1"].potential[y, x, c] == total
        assert block[y, x, c] == max(total, 0) // 32
    assert block.max() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "later"}, "layer 'block1': source must be an earlier layer or 'input', not 'later'"),
        ({"stride": (2, 2)}, "layer 'block1', input from 'stem': shape must be 6x6x4, not 3x3x4"),
        (
            {"weights": np.ones((2, 1, 1, 1), int), "groups": 2},
            "layer 'block1', input from 'stem': weights must be to 4 channels, not 2",
        ),
        (
            {"weights": np.full((4, 1, 1, 1), 200)},
            "layer 'block1', input from 'stem': weights must be within -128..127 (8 bits), not 200",
        ),
        (
            {"weights": np.ones((4, 3, 1, 1), int), "groups": 1},
            "layer 'block1', input from 'stem': weights take 3 input channels, but its source 'stem' has shape 6x6x4",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    network = residual_block()
    block = network.layers[2]
    changed = replace(block.joined[0], **changes)
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        replace(network, layers=(*network.layers[:2], replace(block, joined=(changed,)), *network.layers[3:]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "maxpool"}, f"{KIND}, not 'maxpool'"),
        ({"kind": ["linear"]}, f"{KIND}, not ['linear']"),
        ({"kind": None}, f"{KIND}, not None"),
        (
            {"joined": []},
            "layer 'block1', input 1: fields must be ['averaged', 'groups', 'padding', 'source', 'stride'], not "
            "['groups', 'joined', 'padding', 'source', 'stride']",
        ),
        ({"groups": 0}, "layer 'block1', input from 'stem': groups must be within 1..4, not 0"),
        ({"stride": [1]}, "layer 'block1', input from 'stem': stride must be 2 integers, not [1]"),
        ({"source": "block1"}, "layer 'block1': source must be an earlier layer or 'input', not 'block1'"),
        ({"source": 3}, "layer 'block1', source of an input must be a name, not 3"),
    ],
)
def test_a_files_inputs_are_checked(tmp_path, changes, message):
    path = tmp_path / "net.npz"
    residual_block().save(path)
    arrays = dict(np.load(path))
    header = json.loads(arrays["header"].tobytes())
    header["layers"][2]["joined"][0] |= changes
    np.savez(path, **{**arrays, "header": np.frombuffer(json.dumps(header).encode(), np.uint8)})
    with pytest.raises(NetworkError, match=f"^{re.escape(f'{path}: {message}')}$"):
        Network.load(path)


def test_joined_are_projections():
    layer = residual_block().layers[2]
    with pytest.raises(TypeError, match=r"^layer 'block1': joined must be projections, not "):
        replace(layer, joined=(layer,))
    with pytest.raises(NetworkError, match=r"^layer 'block1': inputs must be at most 64, not 65$"):
        replace(layer, joined=layer.joined * 64)


def test_one_of_a_linear_layers_inputs_may_be_a_convolution():
    wide = {"threshold_log2": 2, "potential_bits": 12}
    layers = (
        Linear(name="a", source=INPUT, weights=np.arange(8).reshape(2, 4), bias=np.zeros(2, int), **wide),
        Linear(
            name="b", source="a", weights=np.eye(2, dtype=int) * 4, bias=np.zeros(2, int), **wide,
            joined=(ConvolutionProjection(source=INPUT, weights=np.ones((2, 1, 2, 2), int)),),
        ),
    )  # fmt: skip
    network = Network(name="n", input_shape=Shape(2, 2, 1), layers=layers, firing="deferred")
    trace = same(network, encode(network, np.full((2, 2, 1), 255, np.uint8)))
    first = np.array([0 + 1 + 2 + 3, 4 + 5 + 6 + 7])
    assert trace.potentials.tolist() == (first // 4 * 4 + 4).tolist()


def test_a_transposed_convolution_is_pytorchs_definition():
    """Each input adds its weights to a window of outputs, so many strides on; what the padding cuts off is gone."""
    rng = np.random.default_rng(4)
    layer = Transposed(
        name="up", source=INPUT, weights=rng.integers(-9, 10, (3, 2, 3, 2)), bias=rng.integers(-9, 10, 3), threshold_log2=3,
        stride=(2, 3), padding=Padding(1, 0, 1, 1), more=(1, 2), activation="identity",
    )  # fmt: skip
    network = Network(name="n", input_shape=Shape(3, 2, 2), layers=(layer,), firing="deferred")
    assert network.version == 3 and network.shapes == (Shape(6, 6, 3),)
    image = rng.integers(0, 256, (3, 2, 2), dtype=np.uint8)
    expected = np.zeros((9, 9, 3), np.int64)
    for y, x, c in np.argwhere(image > network.input_threshold):
        for dy, dx, oc in np.ndindex(3, 2, 3):
            expected[y * 2 + dy, x * 3 + dx, oc] += layer.weights[oc, c, dy, dx]
    expected = expected[1:7, :6] + layer.bias
    assert (same(network, encode(network, image)).layers["up"].potential == expected).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"more": (2, 0)}, "layer 'up': more must be within 0..1, not 2"),
        ({"padding": (1, 1, 1, 1), "weights": np.ones((1, 1, 2, 2), int)}, "layer 'up': padding (1, 1, 1, 1) leaves nothing of "
         "its source 1x1x1"),
        ({"weights": np.ones((1, 2, 2, 2), int)}, "layer 'up': weights take 2 input channels, but its source 'input' has shape "
         "1x1x1"),
    ],
)  # fmt: skip
def test_transposed_convolutions_that_do_not_fit(changes, message):
    common = {"name": "up", "source": INPUT, "bias": [0], "threshold_log2": 1, "stride": (2, 2)}
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        one(**{"weights": np.ones((1, 1, 2, 2), int), **common, **changes})


def one(**fields):
    return Network(name="n", input_shape=Shape(1, 1, 1), layers=(Transposed(**fields),))


def test_no_folded_machine_is_for_transposed_convolutions():
    network = one(name="up", source=INPUT, bias=[0], threshold_log2=1, stride=(2, 2), weights=np.ones((1, 1, 2, 2), int))
    named_plan(network, "minimal")
    with pytest.raises(
        PlanError,
        match=r"^layer 'up': a transposed convolution is walked by no folded machine; build it with a plan of a pipeline$",
    ):
        named_plan(network, "folded")
