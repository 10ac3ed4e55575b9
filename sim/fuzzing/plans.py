"""Fuzzing of plan files."""

import json
import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from model.machine.checks import check_plan
from model.machine.named_plans import named_plan
from model.machine.plan import Plan, PlanError
from model.machine.simulate import simulate
from model.network import Network
from sim.fuzzing.mutations import edited_json, noisy
from sim.fuzzing.networks import corpus
from sim.fuzzing.targets import Target, WrongError
from sim.generators.frames import random_events
from sim.generators.plans import random_folded_plan, random_pipeline_plan

__all__ = ["TARGET"]

_WORDS = (
    *("layer", "channels", "columns", "rows", "group_fifo", "pool_fifo", "event_fifo", "join_fifo", "generation_bits"),
    *("state_memory", "tag_memory", "weight_memory", "auto", "block", "distributed", "single_port", "split", "mixed"),
    *("cores", "inject", "watch", "states", "weight_check", "architecture", "format", "version", "tally-plan", "tally-network"),
    *("conv2", "fc1"),
)


@cache
def _machines() -> dict[str, tuple[Network, Plan]]:
    """Networks and plans that suit them, by the plans' names."""
    found: dict[str, tuple[Network, Plan]] = {}
    for number, network in enumerate(corpus()):
        for kind in ("minimal", "pipeline", "folded"):
            draw = random_folded_plan if kind == "folded" else random_pipeline_plan
            try:
                plan = named_plan(network, "minimal") if kind == "minimal" else draw(network, number)
                check_plan(network, plan)
            except PlanError:
                # Not every network can be built in every way.
                continue
            name = f"{kind}{number}"
            found[name] = network, replace(plan, name=name)
    return found


@cache
def _seeds() -> tuple[bytes, ...]:
    found = []
    for _, plan in _machines().values():
        data = {"format": "tally-plan", "version": 1, **{name: getattr(plan, name) for name in ("name", "architecture")}}
        data |= {name: getattr(plan, name) for name in ("inject", "watch", "states", "weight_check")}
        data["cores"] = [vars(core) for core in plan.cores]
        found.append(json.dumps(data).encode())
    return tuple(found)


def _mutated(content: bytes, chance: random.Random) -> bytes:
    return noisy(content, chance) if chance.random() < 0.1 else edited_json(content, chance, _WORDS)


def _read(content: bytes, folder: Path) -> str:
    path = folder / "plan.json"
    path.write_bytes(content)
    plan = Plan.load(path)
    plan.save(path)
    again = Plan.load(path)
    if again != plan or again.content_hash != plan.content_hash:
        raise WrongError("the plan must be the same when it is written and read again")
    machines = _machines()
    network, _ = machines.get(plan.name) or machines["minimal0"]
    # Refused where it does not suit the network.
    check_plan(network, plan)
    frames = [random_events(network.input_shape, seed, 8) for seed in (1, 2)]
    cycles = simulate(network, plan, frames)
    if cycles.frames != len(frames) or (np.diff(cycles.answered) <= 0).any():
        raise WrongError(f"the cycle model must answer {len(frames)} frames one after the other, not at {cycles.answered}")
    return "run by the cycle model"


TARGET = Target(name="plan", ending=".json", seeds=_seeds, mutated=_mutated, read=_read)
