"""Campaigns of random verification: machines against both models, and the engine against the golden model.

`VERIFY`: RTL = golden model = cycle model, of random networks, plans, firing modes, frames, idle sources and stalled sinks. The
fast engine stands for the golden model, which is run itself on the first frames of each case. `ENGINE`: golden model = engine, of
networks that no machine is built of too.
"""

import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from model.engine.engine import run_fast
from model.events import Events
from model.golden import Trace, run
from model.network import Network
from model.support.cache import source_hash
from sim.campaigns.crosses import BY_LAYER, BY_MACHINE, BY_PLAN, SEVERAL, by_layer, by_machine, by_plan, kind_of, pattern
from sim.campaigns.jobs import DifferenceError, Kind, Parameters
from sim.cosimulation import CACHE, VerifyResult, verify
from sim.generators.cases import Case, random_case, random_firing_network
from sim.simulators import simulator_version
from sim.traces import differing

__all__ = ["ENGINE", "VERIFY", "layer_kinds", "sources_version"]

ROOT = Path(__file__).parents[2]

GOLDEN_SPIKES = 500
"""Spikes of a case up to which the golden model, which is far slower than the engine, is run itself."""


@cache
def sources_version() -> str:
    """What decides which cases are drawn, and what is found of them."""
    return source_hash(*(ROOT / package for package in ("model", "hw", "sim")))


def _packages(*names: str) -> list[str]:
    return [f"{name} {version(name)}" for name in names] + [f"python {platform.python_version()}"]


def _verify(parameters: Parameters, folder: Path) -> dict[str, Any]:
    """Simulate a random machine, and compare it with both models."""
    seed, number, spikes = (int(parameters[name]) for name in ("seed", "number", "spikes"))
    simulator = str(parameters["simulator"])
    case = random_case(seed, number, spikes=spikes)
    case.save(folder)
    golden_spikes, wrong = _golden(case.network, case.frames)
    result = _simulated(case, simulator, folder)
    traces = [run_fast(case.network, frame) for frame in case.frames]
    layers = by_layer(case.network, traces, result.coverage)
    behaviour = pattern(case.idle, case.stall)
    machine = by_machine(case.plan, case.network.firing, behaviour, traces, result.coverage, watched=case.watch)
    found = {
        "networks": 1,
        "layers": layer_kinds(case.network),
        "machines": {f"{case.plan.architecture}, {case.network.firing}": 1},
        "frames": result.frames,
        "spikes": result.spikes_compared,
        "spikes of the golden model itself": golden_spikes,
        "events": result.events_compared,
        "tokens": result.cycles_compared,
        "differences": result.mismatches + len(wrong),
        "differences of cycles": result.cycle_mismatches,
        "rare": result.coverage.counted(),
        BY_LAYER: layers,
        BY_MACHINE: machine,
        BY_PLAN: by_plan(case.plan, layers, machine),
        "tools": [simulator_version(simulator), *_packages("amaranth", "cocotb", "numpy")],
    }
    if wrong or result.mismatches or result.cycle_mismatches:
        told = [f"the engine differs from the golden model: {', '.join(wrong)}"] if wrong else []
        raise DifferenceError("\n".join([*told, *([result.report] if result.report else [])]), found)
    return found


def _simulated(case: Case, simulator: str, folder: Path) -> VerifyResult:
    """What the co-simulation of a case finds. What is compiled is of no use to another case, but for the simulator's library."""
    kept = folder / "cache"
    kept.mkdir()
    library = (CACHE / "ccache").resolve()
    library.mkdir(parents=True, exist_ok=True)
    (kept / "ccache").symlink_to(library)
    return verify(
        case.network,
        case.plan,
        case.frames,
        simulator=simulator,
        out_dir=folder / "simulation",
        seed=case.seed,
        idle=case.idle,
        stall=case.stall,
        watch=case.watch,
        cache=kept,
    )


def _golden(network: Network, frames: Sequence[Events], spikes: int = GOLDEN_SPIKES) -> tuple[int, list[str]]:
    """Run both models on the first frames; gives the spikes of the golden model, and what differs."""
    fired, wrong = 0, []
    for number, events in enumerate(frames):
        golden, fast = run(network, events), run_fast(network, events)
        fired += _spikes(golden)
        wrong += [f"frame {number}, {name}" for name in differing(golden, fast)]
        if fired >= spikes:
            break
    return fired, wrong


def _spikes(trace: Trace) -> int:
    return sum(len(layer.spikes) for layer in trace.layers.values())


def _engine(parameters: Parameters, folder: Path) -> dict[str, Any]:
    """Run both models on a random network."""
    seed, number, spikes = (int(parameters[name]) for name in ("seed", "number", "spikes"))
    network, frames = random_firing_network(seed, number, spikes=spikes)
    network.save(folder / "network.npz")
    fired, wrong = _golden(network, frames, spikes)
    found = {
        "networks": 1,
        "layers": layer_kinds(network),
        "spikes": fired,
        "differences": len(wrong),
        "tools": _packages("numba", "numpy"),
    }
    if wrong:
        raise DifferenceError(f"the engine differs from the golden model: {', '.join(wrong)}", found)
    return found


def layer_kinds(network: Network) -> dict[str, int]:
    """How many layers of each kind a network has, and how many of them take several inputs."""
    found: dict[str, int] = {}
    for layer in network.layers:
        name = kind_of(layer)
        found[name] = found.get(name, 0) + 1
    if merges := sum(len(layer.sources) > 1 for layer in network.layers):
        found[SEVERAL] = merges
    return found


VERIFY = Kind(name="verify", version=sources_version, run=_verify, memory_bytes=1_500_000_000, threads=1)
"""Of `seed`, `number`, `spikes` and `simulator`."""

ENGINE = Kind(name="engine", version=sources_version, run=_engine, memory_bytes=600_000_000, threads=1)
"""Of `seed`, `number` and `spikes`."""
