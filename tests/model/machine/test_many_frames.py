"""A thousand frames through both machines: a cycle model computes them batch by batch, and few generations are used again and
again, each time after a sweep over the tags."""

from dataclasses import replace

import numpy as np
import pytest

from model.events import make_events
from model.machine.named_plans import named_plan
from model.machine.simulate import BATCH
from model.studies.random_network import drawn
from sim.cosimulation import verify

GENERATION_BITS = 2
FRAMES = 1000

# How the source and the sinks behave: chances of an idle and a stalled cycle, whether all links are watched.
STEADY, IDLE, STALLED, BOTH = (0, 0, False), (0.3, 0, False), (0, 0.6, True), (0.2, 0.4, True)


def few_events(network, seed, frames):
    """Frames of up to four events each, so that a thousand of them are simulated in seconds."""
    rng = np.random.default_rng(seed)
    found = []
    for size in rng.integers(0, 5, frames):
        found.append(make_events(rng.integers(0, network.input_shape.size, size), rng.choice([1, 1, -1], size)))
    return found


def full(*values):
    return pytest.param(*values, marks=pytest.mark.full)


@pytest.mark.parametrize(
    ("plan_name", "text", "seed", "behaviour"),
    [
        ("folded", "6x6x1: 3C3 P2 4F 3F", 1, STEADY),
        ("fast", "6x6x1: 3C3 P2 4F 3F", 1, STEADY),
        full("folded", "6x6x1: 3C3 P2 4F 3F", 2, IDLE),
        full("folded", "6x6x1: 3C3 P2 4F 3F", 3, STALLED),
        full("folded", "6x6x1: 3C3 P2 4F 3F", 4, BOTH),
        full("folded", "5x7x2: 9F 11F 4F", 5, STEADY),
        full("folded", "5x7x2: 9F 11F 4F", 6, BOTH),
        full("folded", "7x6x1: 5C3 6C2 P2 10F", 7, IDLE),
        full("minimal", "6x6x1: 3C3 P2 4F 3F", 8, BOTH),
        full("minimal", "7x6x1: 5C3 6C2 P2 10F", 9, STALLED),
        full("default", "5x7x2: 9F 11F 4F", 10, IDLE),
    ],
)
def test_every_spike_and_cycle(plan_name, text, seed, behaviour, tmp_path):
    network = drawn(text, threshold_log2=6)
    plan = named_plan(network, plan_name)
    plan = replace(plan, cores=tuple(replace(core, generation_bits=GENERATION_BITS) for core in plan.cores))
    idle, stall, watch = behaviour
    frames = few_events(network, seed, FRAMES)
    result = verify(network, plan, frames, out_dir=tmp_path, seed=seed, idle=idle, stall=stall, watch=watch)
    assert (result.mismatches, result.cycle_mismatches, result.report) == (0, 0, None)
    assert len(result.answers) == FRAMES > 10 * BATCH
    assert FRAMES // (2**GENERATION_BITS - 1) > 300
    assert result.spikes_compared > 10 * FRAMES
