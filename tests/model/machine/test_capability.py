"""What no machine is built for is refused wherever a machine or its cycle model is made of a network."""

from dataclasses import replace

import numpy as np
import pytest

from hw.link.encoder import Encoder
from hw.link.scan_encoder import ScanEncoder
from hw.machines import machine_of
from model.machine.named_plans import FOLDED, load_plan
from model.machine.plan import PlanError
from model.machine.simulate import simulate
from model.network import Network, Neurons
from sim.generators.chains import random_chain
from sim.generators.networks import random_linear, random_network

NETWORK = random_network(1)
PLAN = load_plan(NETWORK, "minimal")
FRAMES = np.zeros((1, *NETWORK.input_shape), np.uint8)


def with_first(**changes):
    return replace(NETWORK, layers=(replace(NETWORK.layers[0], **changes), *NETWORK.layers[1:]))


FLUSHING = replace(NETWORK, firing="deferred", flush_events=9)


@pytest.mark.parametrize(
    "make",
    [
        lambda network: load_plan(network, FOLDED),
        lambda network: simulate(network, replace(PLAN, architecture="folded"), FRAMES),
        lambda network: machine_of(network, replace(PLAN, architecture="folded")),
    ],
)
def test_a_folded_machine_refuses_flushes_within_a_frame_by_name(make):
    with pytest.raises(PlanError) as caught:
        make(FLUSHING)
    assert str(caught.value) == (
        f"network {NETWORK.name!r}: no folded machine is built for flushes within a frame yet: it has one after every 9 input "
        "events"
    )


BURSTING = with_first(burst=4)

DEFERRED = replace(with_first(burst=0, count_max=3), firing="deferred")


@pytest.mark.parametrize("network", [DEFERRED, BURSTING, FLUSHING])
def test_a_pipeline_takes_bursts_ends_of_activations_and_flushes_along(network):
    plan = load_plan(network, "minimal")
    assert simulate(network, plan, FRAMES).frames == 1
    Encoder(network=network), ScanEncoder(network=network), machine_of(network, plan)


@pytest.mark.parametrize("options", [{"burst": 4}, {"firing": "deferred"}])
def test_a_folded_machine_takes_both_along(options):
    chain = random_chain(1)
    layers = tuple(replace(la, burst=options.get("burst", 1)) if isinstance(la, Neurons) else la for la in chain.layers)
    network = replace(chain, layers=layers, firing=options.get("firing", "immediate"))
    plan = load_plan(network, FOLDED)
    assert simulate(network, plan, np.zeros((1, *network.input_shape), np.uint8)).frames == 1
    machine_of(network, plan)


@pytest.mark.parametrize("plan", ["minimal", FOLDED])
def test_averages_are_addresses(plan):
    layer = random_linear(0, inputs=4, outputs=3, averaged=(2, 2), activation="identity")
    assert load_plan(Network(name="n", input_shape=(5, 5, 1), layers=(layer,)), plan).name == plan
