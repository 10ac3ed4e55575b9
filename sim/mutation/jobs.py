"""Jobs of a campaign of mutants: a batch of those of a design, or a fault that was made by hand."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hw.flow.tools import tool_version
from model.support.errors import BadInputError
from sim.campaigns.jobs import Kind, Parameters
from sim.campaigns.verification import sources_version
from sim.cosimulation import CACHE
from sim.mutation.argued import ARGUED
from sim.mutation.designs import DESIGNS
from sim.mutation.faults import FAULTS, planted
from sim.mutation.netlists import Mutant, chosen, list_mutants, mutated_verilog, plain_verilog, prepare
from sim.mutation.program import Found, compile_netlist
from sim.mutation.reachability import proved_unreachable
from sim.simulators import simulator_version

__all__ = ["LISTED", "MUTATE", "PLANT", "batch_of", "killed_within"]

LISTED = 4000
"""Mutants that Yosys lists of a design, from which batches are drawn."""


def batch_of(number: int, designs: Sequence[str]) -> tuple[str, int]:
    """The design of a job, and which batch of its mutants it takes: of each design the first batch, then the second."""
    return designs[number % len(designs)], number // len(designs)


def _mutate(parameters: Parameters, folder: Path) -> dict[str, Any]:
    """Simulate a batch of mutants of a design, and prove which of those that survive change nothing."""
    seed, count = int(parameters["seed"]), int(parameters["mutants"])
    names = str(parameters["designs"]).split("; ")
    if unknown := [name for name in names if name not in DESIGNS]:
        raise BadInputError(f"designs must be of {'; '.join(DESIGNS)}, not {unknown[0]!r}")
    name, batch = batch_of(int(parameters["number"]), names)
    design = DESIGNS[name]
    bench = design.bench()
    with ExitStack() as clocks:
        for clock in bench.clocks:
            clocks.enter_context(planted(clock))
        prepared = prepare(bench.component, bench.top, folder)
    mutants = chosen(list_mutants(prepared, count=LISTED, seed=seed), parts=design.parts, count=count, batch=batch, seed=seed)
    found = _counted(name, mutants, [], set(), set())
    if mutants:
        program = compile_netlist(mutated_verilog(prepared, mutants), bench, mutants=len(mutants), folder=folder, library=CACHE)
        became = program.find(range(1, 1 + len(mutants)))
        survivors = [number for number, each in enumerate(became) if not each.killed]
        asked = [mutants[number] for number in survivors]
        proofs = proved_unreachable(prepared, bench.top, asked, bench.around, folder / "proofs")
        equivalent = {survivors[place] for place in proofs.equivalent}
        found = _counted(name, mutants, became, equivalent, {survivors[place] for place in proofs.seen})
    return found | {"tools": [tool_version("yosys"), simulator_version("verilator")]}


def _counted(
    design: str, mutants: Sequence[Mutant], became: Sequence[Found], proved: set[int], seen: set[int]
) -> dict[str, Any]:
    """What became of the mutants, by part: ``proved`` change nothing, ``seen`` do for some inputs, and are never argued away."""
    all_, killed, within, equivalent, argued = (Counter[str]() for _ in range(5))
    survivors = []
    for number, (mutant, found) in enumerate(zip(mutants, became, strict=False)):
        all_[mutant.part] += 1
        if found.killed:
            killed[f"{mutant.part}, {found.check}"] += 1
            within[f"{mutant.part}, {killed_within(found.cycle)}"] += 1
        elif number in proved:
            equivalent[mutant.part] += 1
        elif number not in seen and f"{mutant.part}: {design}: {mutant}" in ARGUED:
            argued[mutant.part] += 1
        else:
            note = " (some inputs show it)" if number in seen else ""
            survivors.append(f"{mutant.part}: {design}: {mutant}{note}")
    return {
        "mutants": sum(all_.values()),
        "of part": dict(all_),
        "killed": dict(killed),
        "killed within cycles": dict(within),
        "proved equivalent": dict(equivalent),
        "argued": dict(argued),
        "survivors": sorted(survivors),
    }


def _plant(parameters: Parameters, folder: Path) -> dict[str, Any]:
    """Simulate a design with a fault that was made by hand in the sources."""
    fault = FAULTS[int(parameters["number"])]
    bench = DESIGNS[fault.design].bench()
    good = prepare(bench.component, bench.top, folder / "good")
    library = compile_netlist(plain_verilog(good), bench, mutants=0, folder=folder / "good", library=CACHE)
    with planted(fault):
        # What its bench expects is what is right.
        faulty = prepare(DESIGNS[fault.design].bench().component, bench.top, folder / "wrong")
    program = compile_netlist(plain_verilog(faulty), bench, mutants=0, folder=folder / "wrong", library=CACHE)
    (became,) = program.find([0], library)
    told = f"{fault.part}: {fault.design}: {fault.source} {fault.says}"
    return {
        "faults by hand": 1,
        "by hand, of part": {fault.part: 1},
        "by hand, killed": {f"{fault.part}, {became.check}": 1} if became.killed else {},
        "by hand, killed within cycles": {f"{fault.part}, {killed_within(became.cycle)}": 1} if became.killed else {},
        "by hand, survivors": [] if became.killed else [told],
        "tools": [tool_version("yosys"), simulator_version("verilator")],
    }


def killed_within(cycle: int) -> str:
    """The power of ten of cycles within which this one is."""
    most = 10
    while most < cycle:
        most *= 10
    return f"{most:,}"


MUTATE = Kind(name="mutate", version=sources_version, run=_mutate, memory_bytes=1_500_000_000, threads=1)
"""Of `seed`, `number`, `mutants` of a job, and `designs`, their names with ``"; "`` between."""

PLANT = Kind(name="plant", version=sources_version, run=_plant, memory_bytes=1_500_000_000, threads=1)
"""Of `number`, that of one of `sim.mutation.faults.FAULTS`, and `seed`, which does not matter."""
