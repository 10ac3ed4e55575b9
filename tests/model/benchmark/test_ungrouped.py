"""Grouped convolutions as ordinary ones: the same spikes, with zeros added."""

import numpy as np
import pytest

from model.benchmark.ungrouped import ungrouped
from model.encode import encode
from model.golden import run
from model.machine.capability import check_machine_can
from model.machine.plan import PlanError
from model.network import Convolution, Network, Padding


def network(groups):
    rng = np.random.default_rng(7)
    return Network(
        name="grouped",
        input_shape=(5, 5, 4),
        firing="deferred",
        layers=(
            Convolution(
                name="c",
                source="input",
                weights=rng.integers(-20, 60, (8, 4 // groups, 3, 3)),
                bias=rng.integers(-9, 9, 8),
                threshold_log2=5,
                padding=Padding(1, 1, 1, 1),
                groups=groups,
            ),
        ),
    )


@pytest.mark.parametrize("groups", [2, 4])
def test_the_same_spikes(groups):
    grouped = network(groups)
    found = ungrouped(grouped)
    assert found.layers[0].weights.shape == (8, 4, 3, 3)
    assert found.layers[0].weights.dtype == grouped.layers[0].weights.dtype
    with pytest.raises(PlanError):
        check_machine_can(grouped, folded=True)
    check_machine_can(found, folded=True)
    events = encode(grouped, np.random.default_rng(8).integers(0, 256, (5, 5, 4), dtype=np.uint8))
    before, after = (run(net, events).layers["c"] for net in (grouped, found))
    assert len(before.spikes) > 50
    assert (before.spikes == after.spikes).all()
    assert (before.potential == after.potential).all()
    assert after.operations == groups * before.operations


def test_a_network_without_groups_is_itself():
    plain = network(1)
    assert ungrouped(plain) is plain
