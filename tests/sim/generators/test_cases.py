"""Random cases: the same each time, all different, and of everything that there is."""

import collections
import random

import numpy as np
import pytest

from model.engine.engine import run_fast
from model.machine.checks import check_plan
from model.machine.plan import Plan, PlanError
from model.network import Network
from sim.campaigns.verification import layer_kinds
from sim.generators import cases
from sim.generators.cases import random_case, random_firing_network

SPIKES = 200


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Cases of few frames, however quiet their networks are."""
    monkeypatch.setattr(cases, "MOST_FRAMES", 30)


def test_a_case_is_its_seed_and_number(tmp_path):
    first, again = random_case(1, 4, spikes=SPIKES), random_case(1, 4, spikes=SPIKES)
    assert first.network.content_hash == again.network.content_hash and first.plan == again.plan
    assert [frame.tolist() for frame in first.frames] == [frame.tolist() for frame in again.frames]
    assert (first.idle, first.stall, first.watch, first.seed) == (again.idle, again.stall, again.watch, again.seed)
    others = [random_case(2, 4, spikes=SPIKES), random_case(1, 5, spikes=SPIKES)]
    assert len({first.seed, *(other.seed for other in others)}) == 3
    first.save(tmp_path)
    assert Network.load(tmp_path / "network.npz").content_hash == first.network.content_hash
    assert Plan.load(tmp_path / "plan.json") == first.plan
    with np.load(tmp_path / "frames.npz") as saved:
        assert [saved[f"frame{number}"].tolist() for number in range(len(saved))] == [frame.tolist() for frame in first.frames]


def fired(network, frames):
    return sum(len(layer.spikes) for frame in frames for layer in run_fast(network, frame).layers.values())


def test_cases_are_of_everything():
    """Both architectures and firings, all layers, graphs, watched and not; as many spikes as are wanted, about."""
    seen = collections.Counter()
    for number in range(24):
        case = random_case(7, number, spikes=SPIKES)
        check_plan(case.network, case.plan)
        seen.update([case.plan.architecture, case.network.firing, "watched" if case.watch else "not watched"])
        seen.update(layer_kinds(case.network).keys())
        seen["stalled"] += case.stall > 0
        seen["idle"] += case.idle > 0
        seen["flushes"] += case.network.flush_events > 0
        assert not case.watch or case.plan.watch
        spikes = fired(case.network, case.frames)
        assert spikes >= SPIKES or len(case.frames) >= cases.MOST_FRAMES + 1
        assert spikes <= (cases._LOUD + 1) * SPIKES
    wanted = (
        *("pipeline", "folded", "immediate", "deferred", "watched", "not watched", "stalled", "idle", "flushes"),
        *("convolution", "convolution in groups", "linear", "max-pool", "of several inputs"),
    )
    assert min(seen[name] for name in wanted) > 0, seen


@pytest.mark.full
def test_most_draws_can_be_built():
    """Of each kind of network: what is refused is drawn again, and is not the rule."""
    seen = collections.Counter()
    chance = cases._chance("built", 1, 0)
    for number in range(300):
        try:
            network, plan = cases._machine(number, chance)
        except PlanError:
            seen["refused"] += 1
        else:
            seen[network.name.rstrip("0123456789").removesuffix("_burst"), plan.folded] += 1
    assert seen["refused"] < 150 and len(seen) > 12, seen


def test_networks_for_the_models_alone():
    first, frames = random_firing_network(1, 0, spikes=SPIKES)
    again, same = random_firing_network(1, 0, spikes=SPIKES)
    assert first.content_hash == again.content_hash
    assert [frame.tolist() for frame in frames] == [frame.tolist() for frame in same]
    assert len({random_firing_network(1, number, spikes=SPIKES)[0].content_hash for number in range(6)}) == 6


@pytest.mark.parametrize(("kind", "drawn"), [*cases.PIPELINES.items(), *cases.FOLDED.items()])
def test_any_seed_gives_a_network(kind, drawn):
    """Sizes, strides and padding that are drawn suit each other."""
    # Of grouped networks those of seeds 32, 47, 62, 90 and 94 had a border on both sides of a single column.
    assert all(isinstance(drawn(seed, random.Random(seed)), Network) for seed in range(100)), kind
