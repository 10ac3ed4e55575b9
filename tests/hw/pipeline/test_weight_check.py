"""The check of weights in the background: it moves no token, sees upsets of every core's weights, and nothing else."""

import random
from dataclasses import replace

import numpy as np
import pytest

from hw.flow.verilog import to_verilog
from hw.machines import machine_of
from hw.pipeline.projection import ProjectionCore
from model.encode import encode
from model.machine.checks import check_plan
from model.machine.named_plans import named_plan
from model.machine.plan import Plan, PlanError
from model.network import Network
from model.studies.random_network import drawn
from sim.cosimulation import CACHE, verify
from sim.generators.cases import random_case
from sim.mutation.faults import SourceFault, planted
from sim.seu.machine import Flip, OpenMachine
from sim.seu.places import STATES, WEIGHTS

FRAMES = 6


def checked(plan: Plan, memory: str | None = None) -> Plan:
    """The plan with the check, and with all weights in memories of that kind."""
    cores = tuple(replace(core, weight_memory=memory or core.weight_memory) for core in plan.cores)
    return replace(plan, cores=cores, weight_check=True)


# Flushes within frames; deferred with several columns; bursts with a lane a core; barriers; rows and columns; mixed memories.
@pytest.mark.parametrize("number", [4, 10, *(pytest.param(n, marks=pytest.mark.full) for n in (0, 3, 6, 13, 15, 20, 21))])
def test_every_token_stays_in_its_cycle(number, tmp_path):
    """Against golden model and cycle model, which know nothing of the check."""
    case = random_case(11, number, spikes=300)
    result = verify(
        case.network,
        checked(case.plan),
        case.frames,
        out_dir=tmp_path,
        idle=case.idle,
        stall=case.stall,
        watch=case.watch,
        seed=case.seed,
    )
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert result.cycles_compared > 100


def test_a_check_that_does_not_wait_is_seen(tmp_path):
    """The lanes get the words of the check in place of their own."""
    case = random_case(11, 10, spikes=300)
    fault = SourceFault(
        says="the check reads in any cycle", part="projection", design="", component=ProjectionCore,
        right='check.free.eq(_delays(m, "weights_unused", unused, 2)[-1])', wrong="check.free.eq(1)",
    )  # fmt: skip
    plan = checked(case.plan)
    with planted(fault):
        wrong = to_verilog(machine_of(case.network, plan), "machine")
    result = verify(case.network, plan, case.frames, out_dir=tmp_path, verilog=wrong)
    assert result.mismatches > 0


def opened(folder, network: Network, plan: Plan) -> OpenMachine:
    pixels = np.random.default_rng(1).random((FRAMES, *network.input_shape)) < 0.4
    frames = [encode(network, image) for image in np.where(pixels, 255, 0).astype(np.uint8)]
    return OpenMachine(network, plan, frames, cache=CACHE, folder=folder)


def core_of(place) -> str:
    return place.name.split(".")[0].removeprefix("core_")


def test_every_bit_of_the_weights_is_seen_with_a_lane_a_core(tmp_path):
    network = drawn("6x6x1: 2C3 P2 4F", threshold_log2=6)
    machine = opened(tmp_path, network, checked(named_plan(network, "minimal")))
    assert machine.undisturbed.weights_differ == () and machine.undisturbed.weight_passes > 10
    cycle = machine.undisturbed.answers[2].cycle
    places = [place for place in machine.places if place.of == WEIGHTS]
    assert {core_of(place) for place in places} == {"p1", "f2"}
    flips = [
        Flip(place=place, word=word, bit=bit, cycle=cycle) for place in places for word in range(place.words) for bit in range(8)
    ]
    assert len(flips) == 8 * (2 * 9 + 4 * 8)
    for flip, run in zip(flips, machine.flip(flips), strict=True):
        assert run.passed.weights_differ == (core_of(flip.place),), flip


@pytest.mark.parametrize("memory", ["auto", "distributed"])
@pytest.mark.parametrize("firing", ["immediate", pytest.param("deferred", marks=pytest.mark.full)])
def test_upsets_in_every_bank_are_seen(firing, memory, tmp_path):
    """Words of 9 banks, 64 bits each, and of the linear layer; in memories and in tables made of LUTs."""
    network = replace(drawn("6x6x1: 8C3 P2 12F", threshold_log2=7), firing=firing)
    machine = opened(tmp_path, network, checked(named_plan(network, "fast"), memory))
    undisturbed = machine.undisturbed
    assert undisturbed.weights_differ == () and undisturbed.weight_passes > 10
    chance, flips = random.Random(1), []
    places = [place for place in machine.places if place.of == WEIGHTS]
    banks = {place.name.rpartition(".")[0] for place in places}
    assert len([bank for bank in banks if core_of(place_named(places, bank)) == "p1"]) == 9
    for place in places:
        for _ in range(4):
            cycle = chance.randint(1, undisturbed.answers[-1].cycle)
            flips.append(Flip(place=place, word=chance.randrange(place.words), bit=chance.randrange(place.bits), cycle=cycle))
    flips.sort(key=lambda flip: flip.cycle)
    for flip, run in zip(flips, machine.flip(flips), strict=True):
        assert run.passed.weights_differ == (core_of(flip.place),), flip
    # What is no weight is not reported.
    states = [place for place in machine.places if place.of == STATES]
    flips = [Flip(place=place, word=0, bit=chance.randrange(place.bits), cycle=9) for place in states]
    assert flips and all(run.passed.weights_differ == () for run in machine.flip(flips))


def place_named(places, name):
    return next(place for place in places if place.name.rpartition(".")[0] == name)


def test_without_it_the_machine_has_none():
    network = drawn("6x6x1: 2C3 P2 4F")
    plan = named_plan(network, "minimal")
    assert not plan.weight_check and not hasattr(machine_of(network, plan), "weights_differ")
    assert hasattr(machine_of(network, checked(plan)), "weights_differ")


def test_a_folded_machine_has_none():
    network = drawn("6x6x1: 2C3 P2 4F")
    refused = r"^plan 'folded': weight_check must be false unless architecture is 'pipeline', not true$"
    with pytest.raises(PlanError, match=refused):
        check_plan(network, checked(named_plan(network, "folded")))
