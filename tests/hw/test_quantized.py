"""A quantized file as a machine: the file's integers, halves to the even one, in every spike and every cycle."""

from dataclasses import replace

import numpy as np
import pytest

from model.conversion.from_quantized import from_quantized
from model.conversion.quantize import Settings
from model.encode import encode
from model.engine.engine import run_fast
from model.importers.onnx import import_model
from model.machine.named_plans import named_plan
from model.network import Network, Neurons
from sim.cosimulation import verify
from tests.quantized_graphs import SHAPE, Quantized, residual, usual

RNG = np.random.default_rng(3)


def quantized(file: Quantized) -> Network:
    """As hardware builds it."""
    frames = RNG.integers(0, 256, (40, *SHAPE), dtype=np.uint8)
    floats = import_model(file.model(), "net.onnx")
    return from_quantized(floats, frames, Settings(for_hardware=True, ungroup=True), name="net").network


def without_halves(network: Network) -> Network:
    layers = [replace(layer, halves_to_even=False) if isinstance(layer, Neurons) else layer for layer in network.layers]
    return replace(network, layers=tuple(layers))


@pytest.mark.parametrize("plan", ["folded", pytest.param("default", marks=pytest.mark.full)])
def test_a_quantized_network_as_a_machine(plan, tmp_path):
    """Of levels with a sign; every one of its layers may meet sums that are half way between two."""
    network = quantized(usual(signed=True))
    neurons = [layer for layer in network.layers if isinstance(layer, Neurons)]
    assert all(layer.halves_to_even for layer in neurons)
    few = RNG.integers(0, 256, (4, *SHAPE), dtype=np.uint8)
    frames = [encode(network, np.where(RNG.random(SHAPE) < 0.3, frame, 0).astype(np.uint8)) for frame in few]
    plain = without_halves(network)
    traces = [(run_fast(network, frame), run_fast(plain, frame)) for frame in frames]
    for layer in neurons[:-1]:
        assert any((one.layers[layer.name].count != other.layers[layer.name].count).any() for one, other in traces), layer.name
    result = verify(network, named_plan(network, plan), frames, out_dir=tmp_path)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.spikes_compared > 1000


@pytest.mark.full
def test_a_quantized_residual_block_as_a_machine(tmp_path):
    """The shortcut and the convolution that it is added to both come as counts."""
    network = quantized(residual(signed=True))
    assert max(len(layer.sources) for layer in network.layers) == 2
    few = RNG.integers(0, 256, (2, *SHAPE), dtype=np.uint8)
    frames = [encode(network, np.where(RNG.random(SHAPE) < 0.3, frame, 0).astype(np.uint8)) for frame in few]
    result = verify(network, named_plan(network, "folded"), frames, out_dir=tmp_path)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.spikes_compared > 1000
