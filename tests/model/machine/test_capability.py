"""What no machine is built for is refused wherever a machine or its cycle model is made of a network."""

from dataclasses import replace

import numpy as np
import pytest

from hw.link.encoder import Encoder
from hw.link.scan_encoder import ScanEncoder
from hw.machines import machine_of
from model.machine.estimate import planned
from model.machine.named_plans import FOLDED, load_plan
from model.machine.plan import PlanError
from model.machine.simulate import simulate
from tests.hardware import random_network

NETWORK = random_network(1)
PLAN = load_plan(NETWORK, "minimal")
FRAMES = np.zeros((1, *NETWORK.input_shape), np.uint8)

BURST = replace(NETWORK, layers=(replace(NETWORK.layers[0], burst=0), *NETWORK.layers[1:]))

REFUSED = [
    (replace(NETWORK, input_levels=3, input_step=20), "several levels of the input (3)"),
    (replace(NETWORK, firing="deferred"), "deferred firing"),
    (replace(NETWORK, rest=True), "frames that start from the state at rest"),
    (BURST, "burst 0 of layer 'conv1', only for 1"),
]


@pytest.mark.parametrize(("network", "what"), REFUSED)
@pytest.mark.parametrize(
    "make",
    [
        lambda network: load_plan(network, "fast"),
        lambda network: load_plan(network, FOLDED),
        lambda network: simulate(network, PLAN, FRAMES),
        lambda network: planned(network, FRAMES),
        lambda network: machine_of(network, PLAN),
        lambda network: Encoder(network=network),
        lambda network: ScanEncoder(network=network),
    ],
)
def test_refused_by_name(network, what, make):
    with pytest.raises(PlanError) as caught:
        make(network)
    assert str(caught.value) == f"network {network.name!r}: no machine is built for {what} yet"
