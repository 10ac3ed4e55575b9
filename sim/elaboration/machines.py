"""What is elaborated, without a simulation: random machines with their links, and those of a few bundled networks."""

import gc
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from amaranth.hdl import Elaboratable, Fragment

import model
from hw.flow.area import estimate_area
from hw.flow.block_use import blocks_by_core
from hw.link.system import System
from model.machine.checks import check_plan
from model.machine.folded_layout import Folded
from model.machine.named_plans import load_plan
from model.machine.plan import Plan, PlanError
from model.network import Network
from sim.generators.cases import random_machine

__all__ = ["BUNDLED", "bundled_systems", "elaborate", "random_system", "random_systems"]

BUNDLED = (
    *(("mnist-small", plan) for plan in ("minimal", "default", "fast", "folded")),
    ("mnist-fast", "folded"),
    ("cifar-resnet", "cifar-resnet-176.json"),
)
"""Bundled networks whose machines are elaborated in seconds, and plans; the last one divides memories of weights by address."""

_ZOO = Path(model.__file__).parent / "zoo"

_FLASH_ADDR = 0x20000


def _coded(network: Network, chance: random.Random) -> Network:
    """The network with any coding of its input."""
    levels = chance.choice([1, 1, 2, 4])
    threshold = chance.choice([51, chance.randint(0, 200)])
    step = chance.randint(1, (254 - threshold) // (levels - 1)) if levels > 1 else 1
    return replace(network, input_threshold=threshold, input_levels=levels, input_step=step)


def _shown(network: Network, plan: Plan, chance: random.Random) -> Plan:
    """The plan, whose states the host may read now and then where that can be built."""
    shown = replace(plan, states=True)
    try:
        check_plan(network, shown)
    except PlanError:
        return plan
    return shown if chance.random() < 0.4 else plan


def random_system(seed: int, number: int) -> tuple[Network, Plan, System]:
    """One of the systems of a seed, the same each time: any machine of the generators, any coding of the input, and its link."""
    chance = random.Random(f"system {seed} {number}")
    network, plan = random_machine(seed, number)
    network = _coded(network, chance)
    plan = _shown(network, plan, chance)
    return network, plan, _system(network, plan, divisor=chance.choice([4, 12, 60]))


def _system(network: Network, plan: Plan, *, divisor: int = 12) -> System:
    flash = plan.folded and Folded.of(network, plan).single_weight_words
    return System(
        network=network, plan=plan, divisor=divisor, clock_hz=divisor * 1e6, flash_addr=_FLASH_ADDR if flash else None
    )


def random_systems(seed: int, count: int) -> Iterator[Callable[[], None]]:
    """What elaborates the first ``count`` systems of a seed, one after the other."""
    for number in range(count):

        def work(number: int = number) -> None:
            network, plan, system = random_system(seed, number)
            elaborate(system)
            if not plan.folded:
                # Before it is built, a machine is asked what its memories are.
                estimate_area(network, plan)

        yield work


def bundled_systems() -> Iterator[Callable[[], None]]:
    """What elaborates the systems of bundled networks."""
    for name, plan_name in BUNDLED:

        def work(name: str = name, plan_name: str = plan_name) -> None:
            network = Network.load(_ZOO / f"{name}.npz")
            plan = load_plan(network, str(_ZOO / plan_name) if plan_name.endswith(".json") else plan_name)
            elaborate(_system(network, plan))
            if not plan.folded:
                blocks_by_core(network, plan)

        yield work


def elaborate(top: Elaboratable) -> None:
    """Elaborate a design with all of its parts, and nothing after that."""
    enabled = gc.isenabled()
    # Nearly all that is made is in use to the end: looking for garbage takes a third of the time.
    gc.disable()
    try:
        Fragment.get(top, None)
    finally:
        if enabled:
            gc.enable()
