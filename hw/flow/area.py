"""What a machine takes of an FPGA, before any synthesis: memories but for one in hundreds, LUTs and flip-flops nearly.

Memories follow from the plan, because each says what it is built of (`hw.parts.memory`). LUTs and flip-flops are a sum of what
each part of a core costs: so many for each bit of a lane's potential, so many for each bit of a bank's address, and so on. What
each costs was fitted to designs that were placed; `python -m hw.area_study` places them, and writes ``area.json`` with the
designs, the costs and the errors.
"""

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from math import ceil, log2

from amaranth.hdl import UnusedElaboratable

from hw.aer import AddressEvent, HostEvent
from hw.flow.choices import AREA
from hw.interface import Result
from hw.link.encoders import encoder_of
from hw.link.link import Link
from hw.parts.memory import BLOCK, DISTRIBUTED, LOGIC, BuiltMemory, placed
from hw.pipeline.core import LayerCore
from hw.pipeline.fan_out import Axis, FanOut
from hw.pipeline.machine import Machine
from hw.pipeline.state import words_kind
from model.machine.plan import DISTRIBUTED_WORDS, Plan
from model.machine.signature import SIGNATURE_BITS
from model.machine.stages import Stage, core_plan, count_bits, counts_members, firing_core, more_bits, shares_flush, stages
from model.network import MaxPool, Network, Neurons

__all__ = ["AREA", "Area", "core_area", "estimate_area", "features", "memories", "memory_luts"]

# Machines are made here to be asked what they are built of, and not elaborated.
warnings.simplefilter("ignore", UnusedElaboratable)

LUT_RAM_CELLS = 6
"""TRELLIS_COMB cells of a LUT RAM: four hold bits, two write (nextpnr-ecp5)."""

_SELECTION_LUTS, _WRITE_LUTS = 0.81, 1.35
"""LUTs of each LUT RAM's worth of words but the first, for a bit of the word, and of each for all bits, after placement: what
selects what is read, and where it is written."""

_TABLE_LUTS = 1.59
"""LUTs of a bit of a table of weights for each 16 of its words, after placement: what holds them, and what selects."""

_FURTHER_LUTS = 1.0
"""LUTs of a bit of each further segment of a memory that is divided by address: what selects, after synthesis."""

_CHECK_COSTS: Mapping[str, Mapping[str, float]] = {
    "luts": {
        "check_systems": 36.0,
        "check_cores": 24.0,
        "check_narrow_bits": 1.2,
        "check_further_bits": 0.34,
        "check_address_bits": 2.0,
        "check_bank_address_bits": 1.0,
    },
    "flip_flops": {"check_systems": 32.0, "check_cores": 79.0, "check_narrow_bits": 1.0, "check_address_bits": 1.0},
}
"""Of the check of weights, which no design of the study has: what its parts are, near to what three machines took more with it
after synthesis."""

_PLANS = 1024
"""Plans whose areas are kept: who looks for a plan asks several times for those of the same ones."""


@dataclass(frozen=True, kw_only=True)
class Area:
    """What a machine with its host link takes.

    Parameters
    ----------
    luts, flip_flops : int
        TRELLIS_COMB and TRELLIS_FF cells, estimated.
    lut_rams, ram_blocks : int
        LUT RAMs (among the LUTs too) and memory blocks, exact.
    fmax_mhz : tuple[float, float]
        Of the slowest and the fastest of the designs that were measured.
    """

    luts: int
    flip_flops: int
    lut_rams: int
    ram_blocks: int
    fmax_mhz: tuple[float, float]


def memories(network: Network, plan: Plan) -> list[BuiltMemory]:
    """Every memory of a `hw.link.system.System`: what its machine, its encoder and its link tell."""
    # No time changes a memory.
    link = Link(network=network, plan=plan, clock_hz=1.0, saturations=1, timeout=1, settle=1)
    return [
        *Machine(network=network, plan=plan).memories,
        *placed("encoder", encoder_of(network).memories),
        *placed("link", link.memories),
    ]


def features(network: Network, plan: Plan) -> dict[str, Counter[str]]:
    """Of each core, and of what is around them (``"system"``), how much there is of what LUTs and flip-flops go with."""
    return _features(network, plan, memories(network, plan))


def _features(network: Network, plan: Plan, all_built: Iterable[BuiltMemory]) -> dict[str, Counter[str]]:
    per_core: dict[str, Counter[str]] = {}
    built: dict[str, list[BuiltMemory]] = {}
    for memory in all_built:
        built.setdefault(memory.name.split(".")[0], []).append(memory)
    for stage in stages(network):
        per_core[stage.name] = _core_features(network, plan, stage, built[f"core_{stage.name}"])
    system: Counter[str] = Counter(system=1)
    system["result_bits"] = Result(network).size
    system["links"] = len(per_core) + 1
    system["host_event_bits"] = HostEvent(network).size
    if plan.weight_check:
        system["check_systems"] = 1
    for part in ("router", "readout", "encoder", "link"):
        _count_memories(system, built.get(part, []))
    per_core["system"] = system
    return per_core


def _core_features(network: Network, plan: Plan, stage: Stage, built: list[BuiltMemory]) -> Counter[str]:
    """Of a core with the memories ``built``."""
    core = core_plan(network, plan, stage)
    first, last = stage.layers[0], stage.layers[-1]
    channels = core.group_channels
    amounts: Counter[str] = Counter(core=1)
    if isinstance(first, Neurons):
        source, *joined = map(network.shape_of, stage.sources)
        fan_out, banks = FanOut.of(first, source, core, joined=joined), core.rows * core.columns
        lanes = core.lanes
        # What fires at once: the lanes, or those of a flush that banks share.
        fired = firing_core(core, fan_out.blocks) if shares_flush(network, first, core) else core
        fires = _firing(network, first)
        amounts["lanes"] = lanes
        amounts[f"{fires}potential_bits"] = fired.lanes * first.potential_bits
        amounts[f"{fires}count_bits"] = fired.lanes * first.count_bits
        amounts["weight_bits"] = lanes * first.weight_bits
        amounts["bank_address_bits"] = banks * ceil(log2(fan_out.depth + 1))
        amounts["bank_weight_address_bits"] = banks * ceil(log2(fan_out.weight_depth + 1))
        amounts["banks"] = banks
        if plan.weight_check:
            word = lanes * first.weight_bits
            amounts["check_cores"] = 1
            amounts["check_further_bits"] = max(0, word - SIGNATURE_BITS)
            amounts["check_narrow_bits"] = min(word, SIGNATURE_BITS)
            amounts["check_address_bits"] = ceil(log2(fan_out.weight_depth))
            amounts["check_bank_address_bits"] = banks * amounts["check_address_bits"]
        if words_kind(core.state_memory, fan_out.depth) == BLOCK:
            words = next(memory for memory in built if memory.name.endswith("projection.state_0.words"))
            amounts["block_state_bits"] = banks * words.width
        amounts["table_bits"] = _table_bits(fan_out.rows) + _table_bits(fan_out.columns)
        by_position = any(".initial_" in memory.name for memory in built)
        if fan_out.blocks > 1 or by_position:
            amounts["biased_lane_bits"] = core.channels * first.potential_bits * banks
            amounts["initial_bits"] = core.channels * first.potential_bits * (banks if by_position else 1)
        if fired.rows * fired.columns > 1:
            amounts["selected_bits"] = fired.lanes * 2
            amounts["turned_bits"] = fired.rows * fired.columns * (fired.rows + fired.columns)
    if isinstance(last, MaxPool):
        members = last.window[0] * last.window[1]
        kept = "deferred_" if network.deferred else "burst_" if counts_members(network, stage) else ""
        amounts[f"{kept}pool_members"] = channels * members
        amounts[f"{kept}pool_bits"] = channels * members * count_bits(network, last.name)
        amounts["pool_partial_bits"] = channels * members if any(last.padding) else 0
    amounts["block_channels"] = channels
    amounts["more_bits"] = channels * sum(more_bits(network, layer.name) for layer in stage.layers)
    amounts["event_bits"] = AddressEvent(network.shape_of(last.name)).size
    _count_memories(amounts, built)
    return amounts


def _firing(network: Network, layer: Neurons) -> str:
    """What the names of costs begin with that go with how the lanes of a layer fire."""
    if network.deferred:
        return "deferred_"
    return "" if layer.burst == 1 else "burst_"


def _count_memories(amounts: Counter[str], built: list[BuiltMemory]) -> None:
    for memory in built:
        amounts["lut_rams"] += memory.lut_rams
        if memory.moved:
            # What a study of plans that move nothing cannot know: see `memory_luts`.
            amounts["moved_flip_flops"] += memory.width * (2 if memory.kind == LOGIC else 1)
            continue
        amounts["initial_luts" if ".initial" in memory.name else "table_luts"] += memory.table_luts
        # What is read a cycle late has registers, unless a block has them inside.
        if memory.name.endswith(("words", "tags", "kept", "places", "order")) and memory.kind == DISTRIBUTED:
            amounts["lut_ram_registers"] += memory.width
        if ".weights_" in memory.name and memory.kind != BLOCK:
            amounts["table_registers"] += memory.width


def memory_luts(memory: BuiltMemory) -> float:
    """LUTs of the LUT RAMs of a memory, of what selects it where the plan divides one, and all LUTs of one that the plan moves
    out of blocks."""
    luts = float(LUT_RAM_CELLS * memory.lut_rams) + (_FURTHER_LUTS * memory.width if memory.further else 0.0)
    if not memory.moved:
        return luts
    if memory.kind == LOGIC:
        return luts + _TABLE_LUTS * memory.table_luts
    parts = ceil(memory.depth / DISTRIBUTED_WORDS)
    return luts + _SELECTION_LUTS * memory.width * (parts - 1) + _WRITE_LUTS * parts


def _table_bits(axis: Axis) -> int:
    """Bits of the tables of an axis: a word's and a weight's share of the address, and a flag, for each bank."""
    reaches = [reach for steps in axis.steps for _, banks in steps for reach in banks if reach]
    if not reaches:
        return 0
    width = 1 + sum(ceil(log2(max(getattr(reach, part) for reach in reaches) + 1)) for part in ("word", "weight"))
    return len(axis.steps) * axis.most_steps * axis.banks * width


@cache
def _fitted() -> dict[str, object]:
    return json.loads(AREA.read_text())  # type: ignore[no-any-return]


def _costs() -> dict[str, Mapping[str, float]]:
    """LUTs and flip-flops of each feature."""
    fitted: dict[str, dict[str, float]] = _fitted()["costs"]  # type: ignore[assignment]
    return {kind: {**costs, **_CHECK_COSTS.get(kind, {})} for kind, costs in fitted.items()}


def summed(amounts: Mapping[str, float], costs: Mapping[str, float]) -> float:
    """What ``amounts`` cost."""
    return sum(costs.get(name, 0.0) * amount for name, amount in amounts.items())


def core_area(network: Network, plan: Plan, stage: Stage) -> tuple[float, int]:
    """LUTs and memory blocks that the core of ``stage`` adds to a machine of ``plan``, whatever the other cores are.

    What is around the cores takes the same for any plan with the same flags, so that these sum up to `estimate_area`'s.
    """
    built = list(LayerCore(network=network, stage=stage, plan=plan).memories)
    luts = summed(_core_features(network, plan, stage, built), _costs()["luts"])
    return luts + sum(map(memory_luts, built)), sum(memory.blocks for memory in built)


@lru_cache(maxsize=_PLANS)
def estimate_area(network: Network, plan: Plan) -> Area:
    """The area of the machine of ``plan``, with its host link, on an ECP5."""
    built, fitted = memories(network, plan), _fitted()
    amounts = _features(network, plan, built)
    costs = _costs()
    fmax: dict[str, float] = fitted["fmax_mhz"]  # type: ignore[assignment]
    return Area(
        luts=round(sum(summed(part, costs["luts"]) for part in amounts.values()) + sum(map(memory_luts, built))),
        flip_flops=round(sum(summed(part, costs["flip_flops"]) + part["moved_flip_flops"] for part in amounts.values())),
        lut_rams=sum(memory.lut_rams for memory in built),
        ram_blocks=sum(memory.blocks for memory in built),
        fmax_mhz=(fmax["slowest"], fmax["fastest"]),
    )
