"""Fine-tuning of any network: its forward pass against the integer network, its files, and that it goes on when stopped."""

import dataclasses
import hashlib
import json
import re
import sys

import numpy as np
import platformdirs
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from model import evaluate as evaluate_module
from model import finetune as finetune_module
from model.conversion.choice import prepared
from model.conversion.coding import InputCoding
from model.conversion.quantize import quantize
from model.conversion.quantized import counts_of_layers
from model.conversion.quantized_frames import run_images
from model.conversion.search import thresholds_of
from model.encode import encode
from model.events import make_events
from model.golden import run_layer
from model.importers.normalization import Normalization
from model.importers.onnx import import_model, import_onnx
from model.machine.capability import check_machine_can
from model.machine.plan import PlanError
from model.network import Linear, Network, Neurons, Shape
from model.support.datasets import Dataset
from model.support.errors import BadInputError, MismatchError
from model.training.finetune import FinetuneSettings, fine_tune
from model.training.finetune import _warnings as outcome_warnings
from model.training.finetune import _with_input_bits as with_input_bits
from tests.onnx_graphs import TWO, Graph
from tests.quantized_graphs import usual

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e .[train]")
firing = pytest.importorskip("model.training.firing")
quantized_layers = pytest.importorskip("model.training.quantized_layers")
residual = pytest.importorskip("model.training.residual")
tuned_onnx = pytest.importorskip("model.training.tuned_onnx")
tuning = pytest.importorskip("model.training.tuning")

@pytest.fixture(autouse=True)
def one_thread():
    """As the command has it by default."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


NORMALIZED = Normalization(mean=(0.4,), std=(0.3,))


def plain():
    return Graph().conv(6, 2, 3).add("Relu").add("MaxPool", **TWO).add("Flatten").linear(54, 4)


def grouped():
    g = Graph(shape=("frames", 4, 9, 7)).conv(6, 2, 3, group=2, strides=[2, 1], pads=[1, 0, 2, 1]).add("Relu")
    g.conv(6, 1, 3, group=6, pads=[1, 1, 1, 1]).norm(6).add("Relu").conv(5, 6, 1).add("Relu")
    return g.add("Flatten").linear(5 * 5 * 6, 3)


def averaged():
    g = Graph().conv(4, 2, 3, pads=[1, 1, 1, 1]).add("Relu").add("AveragePool", kernel_shape=[3, 3], strides=[3, 3])
    return g.conv(5, 4, 2).add("Relu").add("GlobalAveragePool").add("Flatten").linear(5, 3)


def ended():
    g = Graph().conv(4, 2, 3).add("Clip", min=np.float32(0), max=np.float32(6))
    g.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]).conv(5, 4, 2)
    return g.add("Clip", min=np.float32(0), max=np.float32(6)).add("Flatten").linear(20, 4)


def signals():
    g = Graph(shape=("frames", 2, 12)).conv(4, 2, (3,), strides=[1]).add("Relu").add("MaxPool", kernel_shape=[2], strides=[2])
    return g.add("Flatten").linear(20, 3)


def single():
    return Graph(shape=("frames", 7)).linear(7, 5).add("Relu").linear(5, 1)


def convolutions_only():
    return Graph().conv(4, 2, 3).add("Relu").conv(3, 4, 6)


def positions(*end):
    """Convolutions whose outputs have several positions and channels, and what comes after them."""
    graph = Graph().conv(4, 2, 2, strides=[2, 2]).add("Relu").conv(3, 4, 2, strides=[2, 2])
    for operator, attributes in end:
        graph.add(operator, **attributes)
    return graph


TO_CHANNELS_LAST = ("Transpose", {"perm": [0, 2, 3, 1]})
SMALLER = ("MaxPool", {"kernel_shape": [2, 1]})


def channels_first():
    return positions(("Flatten", {}))


def channels_last():
    return positions(TO_CHANNELS_LAST, ("Flatten", {}))


def channels_last_image():
    return positions(TO_CHANNELS_LAST)


def pooled_channels_last():
    return positions(SMALLER, TO_CHANNELS_LAST, ("Flatten", {}))


def branched():
    """Sums in front of a ReLU and behind it, one source twice, a concatenation, and sums of vectors."""
    graph = Graph(shape=("frames", 2, 8, 8))
    stem = graph.conv(4, 2, 3, pads=[1] * 4).add("Relu").last
    inner = graph.conv(4, 4, 3, pads=[1] * 4).last
    first = graph.add("Add", stem, data=inner).add("Relu").last
    once, twice = graph.conv(6, 4, 1, data=first).last, graph.conv(6, 4, 3, data=first, pads=[1] * 4).last
    second = graph.add("Add", twice, data=once).add("Clip", min=0.0, max=2.0).last
    pool = graph.add("MaxPool", data=second, **TWO).last
    strided = graph.conv(4, 4, 2, data=first, strides=[2, 2]).add("Relu").last
    joined = graph.add("Concat", strided, data=pool, axis=1).last
    third = graph.add("AveragePool", data=joined, **TWO).conv(5, 10, 1).add("Relu").add("Flatten").linear(20, 6).last
    other = graph.add("Flatten", data=joined).linear(160, 6).last
    return graph.add("Add", other, data=third).add("Relu").linear(6, 4)


ENDS = [channels_first, channels_last, channels_last_image, pooled_channels_last]
"""Networks whose classes have positions."""

NETWORKS = [plain, grouped, averaged, ended, signals, single, convolutions_only, *ENDS, branched]


def data_for(floats, frames=60, seed=5):
    """Random frames, and for labels what the network answers, so that there is something to keep."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (frames, *floats.input_shape)).astype(np.uint8)
    scores = floats.scores(images.astype(np.float32) / 255)
    labels = (scores - np.median(scores, axis=0)).argmax(axis=1) if scores.shape[1] > 1 else scores[:, 0] > np.median(scores)
    return Dataset("random", images, labels.astype(np.int64))


def layers_of(floats, data, settings, *, scaled=True):
    """The layers to train, thresholds of channels moved a little, and the coding of the input."""
    job = prepared(floats, data, settings.conversion)
    levels = [settings.levels or 2.0] * (len(job.large) - 1) + [settings.output_levels]
    thresholds = thresholds_of(levels, job.large, job.steepest, job.ends)
    coding = job.settings.coding
    layers = quantized_layers.QuantizedLayers(
        job.floats, thresholds, coding, bits_of=settings.conversion.bits_of, firing=firing.Deferred()
    )
    if scaled:
        torch.manual_seed(7)
        with torch.no_grad():
            for neurons in layers._neurons:
                neurons.log_scale += 0.3 * torch.randn(neurons.log_scale.shape)
    return layers, coding


def pixels_of(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()


def test_a_large_weight_is_clipped_where_the_others_gain_more():
    floats = import_model(plain().model(), "net.onnx")
    layers, _ = layers_of(floats, data_for(floats), FinetuneSettings(weight_bits=5), scaled=False)
    # What the others need, of which a little more than there is makes the large one.
    steps = []
    for neurons in layers._neurons:
        weights = neurons.inputs[0].weights.detach()
        steps.append(2.0 ** np.ceil(np.log2(float(weights.abs().max()) / 15)))
        weights.flatten()[0] = 17 * steps[-1]
    with torch.no_grad():
        rounded = [weights.flatten() for (weights,), _ in layers._rounded()]
    for neurons, found, step in zip(layers._neurons, rounded, steps, strict=True):
        exact = neurons.inputs[0].weights.detach().double().flatten()
        assert found[0] == 15 * step
        assert (found - exact)[1:].abs().max() <= step / 2


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("network", [plain, grouped, averaged], ids=lambda network: network.__name__)
def test_no_frame_leaves_the_potentials_of_the_input_layers(network, levels):
    normalization = NORMALIZED if network is grouped else Normalization()
    floats = import_model(network().model(), "net.onnx", normalization=normalization)
    data = data_for(floats)
    for bits in (6, 10):
        settings = FinetuneSettings(
            input_levels=levels, layer_fraction_bits=((floats.layers[0].name, 2),), input_potential_bits=bits, weight_bits=6
        )
        job = prepared(floats, data, settings.conversion)
        layers = quantized_layers.QuantizedLayers(
            job.floats, [1.0] * len(job.large), job.settings.coding, bits_of=settings.conversion.bits_of,
            fraction_of=settings.fraction_of, input_bits=bits, firing=firing.Deferred(),
        )  # fmt: skip
        with torch.no_grad():
            for neurons in layers._neurons[:1]:
                for each in neurons.inputs:
                    each.weights += 0.3 * torch.randn(each.weights.shape, generator=torch.Generator().manual_seed(3))
        tuned = import_model(
            tuned_onnx.tuned_model(floats, layers.folded(), "tuned"), "tuned.onnx", layout="nchw", input_shape=floats.input_shape
        )
        ones = [1.0 for layer in tuned.layers if layer.kind != "maxpool"]
        found = quantize(tuned, ones, settings.at_threshold_one(job.settings.coding), name="tuned")
        first = with_input_bits(found, bits).layers[0]
        assert first.potential_bits == bits and np.abs(first.weights).max() > 0


def test_weights_far_too_large_for_the_potentials_are_made_small_enough():
    floats = import_model(plain().model(), "net.onnx")
    settings = FinetuneSettings(weight_bits=16, layer_fraction_bits=((floats.layers[0].name, 2),))
    layers = quantized_layers.QuantizedLayers(
        floats, [1.0] * 2, settings.conversion.coding, bits_of=settings.conversion.bits_of,
        fraction_of=settings.fraction_of, input_bits=4, firing=firing.Deferred(),
    )  # fmt: skip
    with torch.no_grad():
        layers._neurons[0].inputs[0].weights *= 100_000
        (weights,), bias = next(layers._rounded())
    steps, start = weights.flatten(1) * 4, bias * 4
    assert (start + steps.clamp(min=0).sum(1)).max() <= 7
    assert (start + steps.clamp(max=0).sum(1)).min() >= -8


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
@pytest.mark.parametrize(("levels", "bits", "of_first"), [(1, 8, 8), (4, 6, 6), (4, 3, 3), (2, 8, 3)])
def test_forward_is_the_integer_network(network, levels, bits, of_first):
    """Counts of every layer, spikes and accumulations, through the file that is written."""
    normalization = NORMALIZED if network is grouped else Normalization()
    floats = import_model(network().model(), "net.onnx", normalization=normalization)
    assert network is not grouped or any(la.bias is not None and la.bias.ndim == 3 for la in floats.layers)
    assert network is not averaged or any(la.averaged != (1, 1) for la in floats.layers)
    first = next(layer.name for layer in floats.layers if layer.kind != "maxpool")
    widths = () if of_first == bits else ((first, of_first),)
    settings, data = FinetuneSettings(input_levels=levels, weight_bits=bits, layer_weight_bits=widths), data_for(floats)
    layers, coding = layers_of(floats, data, settings)
    kept = {}
    with torch.no_grad():
        outcome = layers(pixels_of(data.images), kept=kept)
    model = tuned_onnx.tuned_model(floats, layers.folded(), "tuned")
    tuned = import_model(model, "tuned.onnx", layout="nchw", input_shape=floats.input_shape)
    ones = [1.0 for layer in tuned.layers if layer.kind != "maxpool"]
    found = quantize(tuned, ones, settings.at_threshold_one(coding), name="tuned")
    assert [la.weight_bits for la in found.layers if isinstance(la, Neurons)] == [of_first, *[bits] * (len(ones) - 1)]
    expected = [np.concatenate(parts) for parts in zip(*(c.values() for c in counts_of_layers(found, data.images)), strict=True)]
    assert list(kept) == [layer.name for layer in found.layers]
    for own, layer in zip(kept.values(), expected[1:], strict=True):
        assert np.array_equal(own.numpy().transpose(0, 2, 3, 1), layer)
    summaries = run_images(found, data.images)
    assert np.array_equal(outcome.counts.numpy(), summaries.counts)
    neurons = [isinstance(layer, Neurons) for layer in found.layers]
    assert round(float(outcome.spikes) * 60) == summaries.spikes[:, neurons].sum()
    assert round(float(outcome.accumulations) * 60) == summaries.operations.sum() > 0


@pytest.mark.parametrize("network", ENDS, ids=lambda network: network.__name__)
def test_classes_stay_in_the_order_of_the_file(network):
    """Of the file that is written, by ONNX Runtime and by its layers; a start that is written and read is the start."""
    floats = import_model(network().model(), "net.onnx")
    data = data_for(floats)
    values = data.images.astype(np.float32) / 255
    layers = quantized_layers.QuantizedLayers(
        floats, [1.0, 1.0], FinetuneSettings(input_levels=255).conversion.coding, bits_of=lambda _: 16, firing=firing.Deferred()
    )
    model = tuned_onnx.tuned_model(floats, layers.folded(), "tuned")
    tuned = import_model(model, "tuned.onnx", layout="nchw", input_shape=floats.input_shape)
    assert [layer.kind for layer in tuned.layers] == [layer.kind for layer in floats.layers]
    assert [layer.kind == "linear" for layer in tuned.layers][-1] == (network is channels_first)
    given, own = floats.scores(values), tuned.scores(values)
    assert given.shape == own.shape == (60, floats.outputs)
    assert np.allclose(given, own, rtol=1e-4, atol=1e-4)
    assert len(set(given.argmax(axis=1))) > 2
    assert np.array_equal(given.argmax(axis=1), own.argmax(axis=1))
    # Told apart from what it would be in another order.
    height, width, channels = floats.shape_of(floats.layers[-1].name) if network is not channels_first else (2, 2, 3)
    turned = given.reshape(60, height, width, channels).transpose(0, 3, 1, 2).reshape(60, -1)
    assert (turned.argmax(axis=1) != own.argmax(axis=1)).any()


def test_float_pass_is_the_float_network():
    for network in NETWORKS:
        normalization = NORMALIZED if network is grouped else Normalization()
        floats = import_model(network().model(), "net.onnx", normalization=normalization)
        images = data_for(floats).images
        found = quantized_layers.float_scores(floats, pixels_of(images)).numpy()
        assert np.allclose(found, floats.scores(images.astype(np.float32) / 255), rtol=1e-4, atol=1e-4)


def test_forward_is_exact_in_float64_where_float32_is_not():
    floats = import_model(plain().model(), "net.onnx")
    settings, data = FinetuneSettings(weight_bits=16, levels=300.0, output_levels=300.0), data_for(floats)
    layers, coding = layers_of(floats, data, settings)
    model = tuned_onnx.tuned_model(floats, layers.folded(), "tuned")
    tuned = import_model(model, "tuned.onnx", layout="nchw", input_shape=floats.input_shape)
    found = quantize(tuned, [1.0, 1.0], settings.at_threshold_one(coding), name="tuned")
    with torch.no_grad():
        own = layers(pixels_of(data.images), exact=True).counts.numpy()
    assert np.array_equal(own, run_images(found, data.images).counts)


def test_gradient_passes_where_the_count_is_not_held():
    potential = torch.tensor([-0.4, 0.3, 1.7, 3.4, 4.1], requires_grad=True)
    fired = firing.Deferred().fire(potential, firing.Limits(0.0, 3.0))
    assert fired.counts.tolist() == [0.0, 0.0, 1.0, 3.0, 3.0]
    fired.counts.sum().backward()
    assert potential.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_pool_teaches_the_greatest_potential():
    potential = torch.tensor([[[[1.1, 1.8], [0.9, 1.5]]]], requires_grad=True)
    start = firing.Deferred()
    pooled = start.pool(start.fire(potential, firing.Limits(0.0)), (2, 2), (2, 2), (0, 0, 0, 0))
    pooled.counts.sum().backward()
    assert pooled.counts.tolist() == [[[[1.0]]]]
    assert potential.grad.tolist() == [[[[0.0, 1.0], [0.0, 0.0]]]]


@pytest.fixture
def small():
    floats = import_model(plain().model(), "net.onnx")
    settings = FinetuneSettings(epochs=3, batch_size=32, event_price=3.0, levels=2.0, input_levels=1)
    return floats, data_for(floats, frames=240), settings


def test_fewer_events_come_of_a_price(small):
    start, data, settings = small
    lines = []
    dear = fine_tune(start, data, settings, report=lines.append)
    cheap = fine_tune(start, data, dataclasses.replace(settings, event_price=0.0))
    most = min(cheap.epochs[-1].accumulations_per_frame, dear.epochs[0].accumulations_per_frame)
    assert dear.epochs[-1].accumulations_per_frame < most
    assert lines[0] == f"start: {dear.epochs[0]}"
    assert lines[-1] == f"epoch 3/3: {dear.epochs[3]}"
    assert dear.chosen in (2, 3)
    assert dear.frames_held_out == 20
    line = dear.epochs[dear.chosen]
    assert dear.held_out["accuracy_snn"] == line.accuracy
    assert dear.held_out["accumulations_per_frame"] == round(line.accumulations_per_frame)
    assert dear.held_out["spikes_per_neuron"] == round(line.spikes_per_neuron, 4)
    assert {layer.threshold_log2 for layer in dear.network.layers if isinstance(layer, Neurons)} != {0}
    assert dear.network.deferred


def test_price_follows_a_budget(small):
    start, data, settings = small
    settings = dataclasses.replace(settings, epochs=10, event_price=2.0)
    budget = 3200.0
    found = fine_tune(start, data, dataclasses.replace(settings, accumulations=budget))
    assert found.epochs[0].accumulations_per_frame > budget
    prices = [line.event_price for line in found.epochs]
    changes = np.array(prices[2:]) / np.array(prices[1:-1])
    assert prices[:2] == [2.0, 2.0]
    # It rises until the network is below the budget, and falls from there.
    assert max(changes) > 1
    assert min(changes) < 1
    assert all(3 / 4 - 1e-9 <= change <= 4 / 3 + 1e-9 for change in changes)
    within = [line for line in found.epochs[6:] if line.accumulations_per_frame <= 1.01 * budget]
    assert within
    assert found.chosen == min(within, key=lambda line: line.held_out_loss).epoch
    assert found.held_out["accumulations_per_frame"] == round(found.epochs[found.chosen].accumulations_per_frame)
    assert not [line for line in found.warnings if "asked for" in line]
    # Out of reach, the nearest is chosen, and said.
    found = fine_tune(start, data, dataclasses.replace(settings, epochs=3, accumulations=1.0))
    late = found.epochs[2:]
    assert found.chosen == min(late, key=lambda line: line.accumulations_per_frame).epoch
    assert found.warnings[-1] == (
        f"accumulations are {late[found.chosen - 2].accumulations_per_frame:,.0f} per held-out frame, not the 1 asked for: "
        "more epochs or frames give the event price time"
    )
    assert [line.event_price for line in found.epochs] == [2.0, 2.0, 2.0 * 4 / 3, 2.0 * (4 / 3) ** 2]


def test_without_rest_all_that_is_sent_has_its_price(small):
    start, data, settings = small
    settings = dataclasses.replace(settings, epochs=1)
    found, rests = (fine_tune(start, data, dataclasses.replace(settings, rest=rest)) for rest in (False, True))
    assert not found.network.rest and rests.network.rest
    assert found.held_out["accumulations_per_frame"] == round(found.epochs[found.chosen].accumulations_per_frame)
    assert found.epochs[0].accuracy == rests.epochs[0].accuracy
    assert found.epochs[0].spikes_per_neuron > rests.epochs[0].spikes_per_neuron


def test_what_is_said_of_held_out_frames_is_exact_whatever_training_computes_in(small):
    start, data, settings = small
    found, exact = (
        fine_tune(start, data, dataclasses.replace(settings, epochs=1, precision=name)) for name in ("bfloat16", "float32")
    )
    assert found.epochs[0] == exact.epochs[0]
    assert found.epochs[1].loss != exact.epochs[1].loss
    line = found.epochs[found.chosen]
    assert found.held_out["accuracy_snn"] == line.accuracy
    assert found.held_out["accumulations_per_frame"] == round(line.accumulations_per_frame)


def test_teachers_teach_together(small):
    start, data, settings = small
    graph = Graph(seed=9).conv(6, 2, 3).add("Relu").add("MaxPool", **TWO).add("Flatten").linear(54, 4)
    other = import_model(graph.model(), "other.onnx")
    settings = dataclasses.replace(settings, epochs=1, teacher_share=1.0)
    losses = [
        fine_tune(start, data, settings, teachers=teachers).epochs[1].loss
        for teachers in ([], [start], [start, start], [other], [start, other], [other, start])
    ]
    own, same, twice, others, together, turned = losses
    assert own == same == pytest.approx(twice)
    assert together == pytest.approx(turned)
    assert len({round(loss, 4) for loss in (own, others, together)}) == 3


def test_frames_with_a_square_cut_out_are_other_frames(small):
    start, data, settings = small
    plain_frames, cut = (fine_tune(start, data, dataclasses.replace(settings, epochs=1, cutout=size)) for size in (0, 3))
    assert plain_frames.epochs[0] == cut.epochs[0]
    assert plain_frames.epochs[1].loss != cut.epochs[1].loss


def test_photographs_of_a_residual_network_without_groups(tmp_path):
    torch.manual_seed(2)
    network = residual.ResidualNetwork(3, (2, 2), (0, 2), 3).eval()
    residual.export_residual(network, "net", (8, 8, 3), tmp_path / "net.onnx")
    start = import_onnx(tmp_path / "net.onnx")
    data = data_for(start, frames=60)
    settings = FinetuneSettings(epochs=1, batch_size=32, levels=3.0, mirror=True, input_levels=2)
    grouped = fine_tune(start, data, settings)
    found = fine_tune(start, data, dataclasses.replace(settings, ungroup=True))
    with pytest.raises(PlanError) as caught:
        check_machine_can(grouped.network, folded=True)
    assert str(caught.value) == (
        "layer 'stage2_block2_sum': a convolution of 2 groups is walked by no folded machine as such; build it with a plan of a "
        "pipeline, or convert with --ungroup, which writes it as an ordinary one"
    )
    check_machine_can(grouped.network)
    check_machine_can(found.network, folded=True)
    assert found.epochs == grouped.epochs
    assert np.array_equal(run_images(found.network, data.images).counts, run_images(grouped.network, data.images).counts)
    with pytest.raises(BadInputError) as refused:
        dataclasses.replace(settings, augment=True)
    assert str(refused.value) == "augment must not be given with mirror"


def test_a_share_of_frames_is_augmented():
    images = np.random.default_rng(3).integers(0, 256, (400, 9, 7, 1)).astype(np.uint8)
    torch.manual_seed(1)
    plain_pixels, some = tuning._pixels(images), tuning._pixels(images, augmented=0.3)
    same = (plain_pixels == some).flatten(1).all(dim=1)
    assert 0.6 < float(same.float().mean()) < 0.8
    torch.manual_seed(1)
    moved = tuning._pixels(images, augmented=1.0)
    assert torch.equal(some[~same], moved[~same])
    settings = FinetuneSettings(epochs=5, augment=True, augment_share=0.8, last_augment_share=0.2)
    assert [round(tuning._augmented(settings, epoch), 9) for epoch in range(1, 6)] == [0.8, 0.65, 0.5, 0.35, 0.2]
    assert tuning._augmented(FinetuneSettings(augment=True), 3) == 1.0
    assert tuning._augmented(FinetuneSettings(), 3) == 0.0


def test_an_outcome_that_lost_much_or_knows_nothing_is_said():
    labels = np.arange(100) % 10
    spiking = np.where(np.arange(100) < 90, labels, (labels + 1) % 10)
    assert outcome_warnings(spiking, labels, 0.92) == ()
    assert outcome_warnings(spiking, labels, 0.925) == (
        "the spiking network is right on 90.0% of 100 held-out frames, the start on 92.5%: more epochs, more frames, a lower "
        "event price or more levels may help",
    )
    (chance,) = outcome_warnings(labels * 0, labels, 0.925)
    assert chance.startswith("the spiking network is right on 10.0% of 100 frames, no better than always answering class 0")


def test_a_quantized_start_is_taken_for_the_float_network_that_it_rounds():
    start = import_model(usual().model(), "net.onnx")
    assert start.quantized
    data = data_for(start, frames=120)
    answers = start.scores(data.images.astype(np.float32) / 255).argmax(axis=1)
    data = dataclasses.replace(data, labels=answers.astype(np.int64))
    found = fine_tune(start, data, FinetuneSettings(epochs=2, batch_size=32, event_price=0.0, levels=8.0, output_levels=30.0))
    assert not found.floats.quantized
    kinds = ["convolution", "maxpool", "convolution", "convolution", "linear"]
    assert [layer.kind for layer in found.floats.layers] == kinds
    assert [layer.end is None for layer in found.floats.layers] == [False, True, False, False, True]
    assert found.held_out["accuracy_float_start"] == 1.0
    assert found.held_out["accuracy_snn"] >= 0.6


@pytest.mark.parametrize("rest", [True, False])
def test_outputs_count_around_0(small, monkeypatch, rest):
    """All outputs count so many fewer where nothing else changes by it: from the state at rest, what is sent stays the same."""
    start, data, settings = small
    settings = dataclasses.replace(settings, epochs=1, rest=rest)
    bias = start.layers[-1].bias
    start = dataclasses.replace(start, layers=(*start.layers[:-1], dataclasses.replace(start.layers[-1], bias=bias + 40)))
    found = fine_tune(start, data, settings)
    monkeypatch.setattr("model.training.finetune._classes", lambda floats: False)
    other = fine_tune(start, data, settings)
    one, two = (run_images(each.network, data.images) for each in (found, other))
    more = two.counts - one.counts
    assert (more == more[0, 0]).all() and np.array_equal(one.spikes, two.spikes)
    assert (more[0, 0] > 10) == rest
    if rest:
        assert abs(int(one.counts.min() + one.counts.max())) < 8
        assert found.network.output.count_bits < other.network.output.count_bits


def test_what_came_out_can_be_gone_on_from(small):
    start, data, settings = small
    settings = dataclasses.replace(settings, epochs=1)
    first = fine_tune(start, data, settings)
    again = fine_tune(first.floats, data, dataclasses.replace(settings, keep_thresholds=True), teachers=[start])
    before, after = first.epochs[1], again.epochs[0]
    assert (after.accuracy, after.spikes_per_neuron, after.accumulations_per_frame) == (
        before.accuracy,
        before.spikes_per_neuron,
        before.accumulations_per_frame,
    )


def test_first_levels_are_as_many_as_it_takes(small):
    start, data, settings = small
    answers = start.scores((data.images > 51).astype(np.float32)).argmax(axis=1)
    data, lines = dataclasses.replace(data, labels=answers.astype(np.int64)), []
    fine_tune(start, data, dataclasses.replace(settings, epochs=1, levels=None), report=lines.append)
    pattern = re.compile(r"levels (\d+), \d+: accuracy ([\d.]+), -?[\d.]+ to expect, .* per frame")
    tried = [match.groups() for match in map(pattern.fullmatch, lines) if match]
    assert [levels for levels, _ in tried][:2] == ["1", "2"]
    assert float(tried[0][1]) < 0.98
    assert float(tried[-1][1]) >= 0.98


def test_what_would_be_written_must_count_as_what_was_trained(small, monkeypatch):
    start, data, settings = small
    settings = dataclasses.replace(settings, epochs=1)
    written, lines = tuned_onnx.tuned_model, []

    def turned(floats, layers, name):
        """The file with its outputs in another order."""
        model = written(floats, layers, name)
        for constant in model.graph.initializer:
            values = numpy_helper.to_array(constant)
            if len(values) == floats.outputs:
                constant.CopyFrom(numpy_helper.from_array(values[::-1].copy(), constant.name))
        return model

    def wrong(**changed):
        with pytest.raises(MismatchError) as caught:
            fine_tune(start, data, dataclasses.replace(settings, **changed), report=lines.append)
        pattern = (
            r"net\.onnx: internal error: the fine-tuned network, as it would be written, counts otherwise than its layers on "
            r"\d+ of 20 held-out frames; nothing is written\. Please report it with the file"
        )
        assert re.fullmatch(pattern, str(caught.value))

    monkeypatch.setattr(tuned_onnx, "tuned_model", turned)
    for name in ("deferred", "immediate"):
        wrong(firing=name)
    # Before a step is taken.
    assert not [line for line in lines if line.startswith("epoch")]
    # What only goes wrong on the way is found at the end.
    calls = []

    def turned_later(floats, layers, name):
        calls.append(name)
        return (written if len(calls) == 1 else turned)(floats, layers, name)

    monkeypatch.setattr(tuned_onnx, "tuned_model", turned_later)
    wrong()
    assert [line for line in lines if line.startswith("epoch")]


class StoppedError(Exception):
    """In place of a signal."""


@pytest.mark.parametrize("more", [{}, {"precision": "bfloat16", "cutout": 3}], ids=["", "bfloat16"])
def test_goes_on_where_it_was_stopped(small, tmp_path, more):
    start, data, settings = small
    settings = dataclasses.replace(settings, augment=True, augment_share=0.7, last_augment_share=0.2, accumulations=300.0, **more)
    whole = fine_tune(start, data, settings)
    resume = tmp_path / "part.pt"

    def stop(line):
        if line.startswith("epoch 3/3"):
            raise StoppedError

    with pytest.raises(StoppedError):
        fine_tune(start, data, settings, report=stop, resume=resume)
    torch.rand(5)
    lines = []
    found = fine_tune(start, data, settings, report=lines.append, resume=resume)
    assert lines[0] == "goes on after epoch 2 of 3"
    assert found.epochs == whole.epochs
    assert found.model.SerializeToString() == whole.model.SerializeToString()
    assert found.network.to_bytes() == whole.network.to_bytes()
    message = f"{resume}: file to resume from must be of the same start, data, settings, version and threads"
    with pytest.raises(BadInputError, match=f"^{re.escape(message)}$"):
        fine_tune(start, data, dataclasses.replace(settings, seed=2), resume=resume)
    damaged = bytearray(resume.read_bytes())
    damaged[len(damaged) // 2] ^= 16
    for content in (b"PK no archive", damaged, damaged[:-9]):
        resume.write_bytes(content)
        message = f"{resume}: file to resume from must be one that a fine-tuning wrote; delete it to start again"
        with pytest.raises(BadInputError, match=f"^{re.escape(message)}$"):
            fine_tune(start, data, settings, resume=resume)


def test_refuses_a_rate_that_diverges(small):
    start, data, settings = small
    message = "learning_rate and threshold_rate must be less for the loss to stay finite, not 0.03 and 1e+30"
    with pytest.raises(BadInputError, match=f"^{re.escape(message)}$"):
        fine_tune(start, data, dataclasses.replace(settings, threshold_rate=1e30))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs must be 1 or more, not 0"),
        ({"weight_bits": 17}, "weight_bits must be within 2..16, not 17"),
        ({"layer_weight_bits": (("conv1", 17),)}, "layer_weight_bits of 'conv1' must be within 2..16, not 17"),
        ({"layer_fraction_bits": (("conv1", 8),)}, "layer_fraction_bits of 'conv1' must be within 0..7, not 8"),
        ({"input_potential_bits": 3}, "input_potential_bits must be within 4..24, not 3"),
        (
            {"input_potential_bits": 8, "firing": "immediate"},
            "input_potential_bits must not be given where firing is immediate",
        ),
        ({"firing": "never"}, "firing must be one of immediate, deferred, not 'never'"),
        ({"learning_rate": 0.0}, "learning_rate must be more than 0, not 0.0"),
        ({"event_price": float("nan")}, "event_price must be 0 or more, not nan"),
        ({"levels": 0.1}, "levels must be 0.5 or more, not 0.1"),
        ({"teacher_share": 1.5}, "teacher_share must be from 0 to 1, not 1.5"),
        ({"average_decay": 1.0}, "average_decay must be at least 0 and less than 1, not 1.0"),
        ({"accumulations": 0.0}, "accumulations must be more than 0, not 0.0"),
        (
            {"accumulations": 1000.0, "event_price": 0.0},
            "event_price must be more than 0 where accumulations is given, not 0.0",
        ),
        ({"augment": True, "augment_share": 1.1}, "augment_share must be from 0 to 1, not 1.1"),
        ({"last_augment_share": 0.5}, "last_augment_share must not be given without augment"),
    ],
)
def test_settings_refuse(wrong, message):
    with pytest.raises(BadInputError, match=f"^{re.escape(message)}$"):
        FinetuneSettings(**wrong)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A network with its normalization in options, and its data, in a folder of their own; the cache too."""
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache"))
    path = plain().save(tmp_path / "net.onnx")
    floats = import_onnx(path, normalization=NORMALIZED)
    data = data_for(floats, frames=120)
    np.savez(tmp_path / "data.npz", images=data.images, labels=data.labels)
    return tmp_path


def run(folder, *more):
    arguments = [str(folder / "net.onnx"), "--dataset", str(folder / "data.npz"), "--out", str(folder / "tuned.onnx")]
    return CliRunner().invoke(finetune_module.main, [*arguments, "--mean", "0.4", "--std", "0.3", *more])


def test_command_writes_three_files_that_belong_together(files):
    found = run(files, "--epochs", "2", "--batch-size", "16")
    assert found.exit_code == 0, found.output
    network = Network.load(files / "tuned.npz")
    record = json.loads((files / "tuned.finetune.json").read_text())
    assert record["network_hash"] == network.content_hash
    assert record["onnx_sha256"] == hashlib.sha256((files / "tuned.onnx").read_bytes()).hexdigest()
    assert [line["epoch"] for line in record["epochs"]] == [0, 1, 2]
    assert (record["frames_train"], record["frames_held_out"]) == (110, 10)
    assert record["settings"]["augment"] is False
    assert [f"warning: {warning}" for warning in record["warnings"]] == [
        line for line in found.output.splitlines() if line.startswith("warning: ")
    ]
    assert not list((files / "cache" / "finetune").iterdir())
    held = record["held_out"]
    assert (
        f"tuned.npz: accuracy {held['accuracy_snn']:.2%} by spike count on 10 held-out frames of {files / 'data.npz'} "
        f"(the float network at the start: {held['accuracy_float_start']:.2%}), {held['spikes_per_neuron']} spikes per neuron, "
        f"{held['accumulations_per_frame']:,} accumulations\n"
    ) in found.output
    # The float network beside it is the one that it was converted from.
    arguments = [str(files / "tuned.npz"), "--dataset", str(files / "data.npz"), "--out", str(files / "out")]
    evaluated = CliRunner().invoke(evaluate_module.main, arguments)
    assert evaluated.exit_code == 0, evaluated.output
    report = json.loads((files / "out" / "evaluate.json").read_text())
    assert report["float_network"] == str(files / "tuned.onnx")
    assert not [warning for warning in report["warnings"] if "converted from" in warning]
    assert report["accuracy_snn"] == report["accuracy_qann"]


@pytest.mark.parametrize("firing_of", ["deferred", "immediate"])
def test_command_keeps_the_classes_of_positions(tmp_path, monkeypatch, firing_of):
    """Trained on labels of the start, both files answer as it does, class by class."""
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache"))
    floats = import_onnx(channels_last().save(tmp_path / "net.onnx"))
    data = data_for(floats, frames=240)
    values = data.images.astype(np.float32) / 255
    labels = floats.scores(values).argmax(axis=1)
    np.savez(tmp_path / "data.npz", images=data.images, labels=labels)
    more = ("--levels", "32", "--output-levels", "64", "--input-levels", "64", "--event-price", "0", "--learning-rate", "0.0001")
    arguments = [str(tmp_path / "net.onnx"), "--dataset", str(tmp_path / "data.npz"), "--out", str(tmp_path / "tuned.onnx")]
    found = CliRunner().invoke(finetune_module.main, [*arguments, "--epochs", "1", "--firing", firing_of, *more])
    assert found.exit_code == 0, found.output
    counts = run_images(Network.load(tmp_path / "tuned.npz"), data.images).counts
    tuned = import_onnx(tmp_path / "tuned.onnx")
    assert tuned.outputs == floats.outputs == 12
    # One class is on a third of the frames.
    assert np.bincount(labels).max() < 0.5 * len(labels)
    for scores in (counts, tuned.scores(values)):
        assert (scores.argmax(axis=1) == labels).mean() > 0.9
    assert json.loads((tmp_path / "tuned.finetune.json").read_text())["held_out"]["accuracy_snn"] > 0.8


def test_command_writes_nothing_that_is_wrong(files, monkeypatch):
    monkeypatch.setattr(tuning.Tuning, "counts", lambda self, images: np.full((len(images), 4), -1.0))
    found = run(files, "--epochs", "1", "--batch-size", "16")
    message = (
        f"error: {files / 'net.onnx'}: internal error: the fine-tuned network, as it would be written, counts otherwise than its "
        "layers on 10 of 10 held-out frames; nothing is written. Please report it with the file"
    )
    assert (found.exit_code, found.output.splitlines()[-1]) == (5, message)
    assert not list(files.glob("tuned*"))


def test_command_goes_on(files, monkeypatch):
    settings = ("--epochs", "2", "--batch-size", "16", "--augment")
    assert run(files, *settings).exit_code == 0
    first = {name: (files / name).read_bytes() for name in ("tuned.onnx", "tuned.npz", "tuned.finetune.json")}
    for name in first:
        (files / name).unlink()
    with monkeypatch.context() as patched:
        def stop(*given):
            raise KeyboardInterrupt
        patched.setattr(finetune_module, "write_all", stop)
        assert run(files, *settings).exit_code == 130
    assert sorted(path.name for path in files.glob("tuned*")) == []
    found = run(files, *settings)
    assert "goes on after epoch 2 of 2\n" in found.output
    assert {name: (files / name).read_bytes() for name in first} == first


def test_command_refuses(files, monkeypatch):
    def refused(*more):
        found = run(files, *more)
        assert not list(files.glob("tuned*"))
        return found.exit_code, found.output.splitlines()[-1]

    assert refused("--input-step", "3") == (2, "error: --input-step must not be given without --input-levels of 2 or more")
    for wrong in ("conv1", "conv1=", "=4", "conv1=4.5", "conv1=" + "9" * 5000):
        told = f"error: --layer-weight-bits must be names and bits as conv1=4,fc1=6, not {wrong!r}"
        assert refused("--layer-weight-bits", wrong) == (2, told)
    told = "error: --layer-weight-bits must name each layer once, not 'conv1=4,conv1=5'"
    assert refused("--layer-weight-bits", "conv1=4,conv1=5") == (2, told)
    code, told = refused("--layer-weight-bits", "nowhere=4")
    assert code == 2 and told.startswith("error: layer_weight_bits: 'nowhere' must be one of the layers of neurons, ")
    first = import_model(plain().model(), "net.onnx").layers[0].name
    told = f"error: input_potential_bits must not be given without layer_fraction_bits of {first!r}"
    assert refused("--input-potential-bits", "6") == (2, told)
    told = f"error: layer_fraction_bits of {first!r} must be within 0..4 where input_potential_bits is 6, not 5"
    assert refused("--input-potential-bits", "6", "--layer-fraction-bits", f"{first}=5") == (2, told)
    plain().save(files / "other.onnx")
    single().save(files / "single.onnx")
    assert refused("--teacher", str(files / "single.onnx"))[0] == 2
    same = CliRunner().invoke(
        finetune_module.main,
        [str(files / "net.onnx"), "--dataset", str(files / "data.npz"), "--out", str(files / "net.onnx")],
    )
    assert same.exit_code == 2
    (files / "taken.npz").mkdir()
    taken = CliRunner().invoke(
        finetune_module.main,
        [str(files / "net.onnx"), "--dataset", str(files / "data.npz"), "--out", str(files / "taken.onnx")],
    )
    assert (taken.exit_code, taken.output) == (2, f"error: --out must be a file, not a folder, {str(files / 'taken.npz')!r}\n")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert refused() == (6, "error: training must have PyTorch installed: pip install -e .[train]")


@pytest.mark.parametrize("limits", [(0.0, 2.0), (0.0, np.inf), (-np.inf, np.inf)])
def test_counts_follow_as_the_golden_neuron_does(limits):
    """One event a moment, each of less than a threshold, for eight neurons of one input."""
    rng = np.random.default_rng(3)
    signs = rng.choice([-1, 1, 1], 200)
    weights = rng.integers(-60, 61, (8, 1))
    layer = Linear(
        name="n",
        source="input",
        weights=weights,
        bias=np.zeros(8, int),
        threshold_log2=6,
        potential_bits=20,
        count_bits=12,
        activation="identity" if limits[0] < 0 else "relu",
        count_max=None if np.isinf(limits[1]) else int(limits[1]),
    )
    potential = torch.from_numpy(np.cumsum(signs)[:, None, None] * weights[:, 0] / 64).reshape(200, 8, 1, 1)
    immediate = firing.Immediate(200)
    fired = immediate.fire(potential, firing.Limits(*limits))
    trace = run_layer(layer, Shape(1, 1, 1), make_events(np.zeros(200, int), signs))
    assert immediate.final(fired).flatten().tolist() == trace.count.reshape(-1).tolist()
    assert immediate.sent(fired).item() == len(trace.spikes) >= 10
    assert np.isfinite(limits[1]) or (trace.spikes["sign"] < 0).any()


@pytest.mark.parametrize("levels", [1, 3])
def test_moments_are_the_first_events_of_the_encoder(levels):
    floats = import_model(plain().model(), "net.onnx")
    data, settings = data_for(floats, frames=5), FinetuneSettings(firing="immediate")
    coding = InputCoding(60, 1 if levels == 1 else 50, levels)
    tuned = quantize(floats, [1.0, 1.0], settings.at_threshold_one(coding), name="net")
    torch.manual_seed(0)
    shown = firing.Immediate(4).shown(pixels_of(data.images), coding).counts.unflatten(0, (4, 5)).permute(0, 1, 3, 4, 2)
    for frame, image in enumerate(data.images):
        events = encode(tuned, image)["address"]
        for moment in range(4):
            counts = shown[moment, frame].flatten().numpy()
            expected = np.bincount(events[: int(counts.sum())], minlength=counts.size)
            assert np.array_equal(counts, expected)
        assert counts.sum() == len(events) > 50
        assert 0 < shown[0, frame].sum() < len(events)


def test_immediate_pool_teaches_the_greatest_of_the_most_spikes():
    immediate = firing.Immediate(1)
    potential = torch.tensor([[[[1.1, 1.8], [0.9, 1.5]]]], requires_grad=True)
    pooled = immediate.pool(immediate.fire(potential, firing.Limits(0.0)), (2, 2), (2, 2), (0, 0, 0, 0))
    pooled.counts.sum().backward()
    assert pooled.counts.tolist() == [[[[1.0]]]]
    assert potential.grad.tolist() == [[[[0.0, 1.0], [0.0, 0.0]]]]


@pytest.mark.parametrize("network", [plain, ended, grouped])
def test_immediate_firing_is_measured_an_event_at_a_time(network):
    start = import_model(network().model(), "net.onnx")
    data = data_for(start, frames=120)
    settings = FinetuneSettings(epochs=4, batch_size=32, firing="immediate", moments=2, last_moments=3, input_levels=1)
    settings = dataclasses.replace(settings, accumulations=50.0)
    found = fine_tune(start, data, settings)
    assert found.epochs[2].event_price > settings.event_price
    assert not found.network.deferred
    assert not found.network.rest
    line = found.epochs[found.chosen]
    assert (found.held_out["accuracy_snn"], found.held_out["accumulations_per_frame"]) == (
        line.accuracy,
        round(line.accumulations_per_frame),
    )
