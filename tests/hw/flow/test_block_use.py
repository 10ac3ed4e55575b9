"""What memory blocks hold, against the memories that are built, and against networks that have a bit less."""

from dataclasses import replace

import numpy as np
import pytest

from boards.bundled import BUNDLED
from hw.flow.area import memories
from hw.flow.block_use import blocks_by_core
from model.machine.named_plans import named_plan
from model.machine.stages import stages
from model.network import Network, Neurons


def blocks(network, plan, part=""):
    return sum(memory.blocks for memory in memories(network, plan) if memory.name.startswith(part))


def with_layer(network, index, **changes):
    layer = network.layers[index]
    changes = {name: change(getattr(layer, name)) for name, change in changes.items()}
    return replace(network, layers=(*network.layers[:index], replace(layer, **changes), *network.layers[index + 1 :]))


@pytest.mark.parametrize(
    ("name", "plan_name"),
    [
        ("mnist-paper", "minimal"),
        ("mnist-deferred", "default"),
        ("cifar-small", "default"),
        pytest.param("mnist-paper", "default", marks=pytest.mark.full),
        pytest.param("mnist-deferred", "minimal", marks=pytest.mark.full),
        pytest.param("cifar-small", "minimal", marks=pytest.mark.full),
    ],
)
def test_every_block_is_told_once_and_what_a_bit_frees_is_free(name, plan_name):
    network = Network.load(BUNDLED.with_stem(name))
    plan = named_plan(network, plan_name)
    found = {use.core: use for use in blocks_by_core(network, plan)}
    assert sum(use.weights + use.states + use.others for use in found.values()) == blocks(network, plan)
    cores = {stage.name: stage for stage in stages(network)}
    assert [core for core in found if core in cores] == [core for core in cores if core in found]
    freed = 0
    for core, use in found.items():
        if core not in cores:
            assert (use.weights, use.states, use.freed_by_weight_bit, use.freed_by_potential_bit) == (0, 0, None, None)
            continue
        assert use.weights + use.states + use.others == blocks(network, plan, f"core_{core}.")
        assert use.weights == blocks(network, plan, f"core_{core}.projection.weights_")
        assert use.states == blocks(network, plan, f"core_{core}.projection.state_")
        layer = cores[core].layers[0]
        if not isinstance(layer, Neurons):
            continue
        index = network.layers.index(layer)
        # Values do not matter to memories, so that those that fit everywhere will do.
        zeros = with_layer(
            network, index, weights=np.zeros_like, bias=np.zeros_like,
            joined=lambda inputs: tuple(replace(each, weights=np.zeros_like(each.weights)) for each in inputs),
        )  # fmt: skip
        lighter = with_layer(zeros, index, weight_bits=lambda bits: bits - 1)
        narrower = with_layer(zeros, index, potential_bits=lambda bits: bits - 1, threshold_log2=lambda bits: bits - 1)
        assert use.freed_by_weight_bit == blocks(network, plan) - blocks(lighter, plan)
        assert use.freed_by_potential_bit == blocks(network, plan) - blocks(narrower, plan)
        freed += use.freed_by_weight_bit + use.freed_by_potential_bit
    assert freed > 0
