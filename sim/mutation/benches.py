"""What mutants are simulated in: a component, its bench, what goes in, and what must come out of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from amaranth.lib import wiring

from hw.flow.families.ice40 import ICE40
from hw.folded.machine import FoldedMachine
from hw.machines import AnyMachine, machine_of
from model.engine.engine import run_fast
from model.events import Events
from model.machine.plan import Plan
from model.machine.simulate import simulate as cycles
from model.network import Network
from sim.cosimulation import host_tokens, loaded_weights, score_record, watch_mask
from sim.mutation.faults import LATE_CLOCK, SourceFault
from sim.mutation.netlists import WIDTH
from sim.mutation.surroundings import Surroundings, machine_surroundings
from sim.netlist import cell_models
from sim.recorder import RESULT, records, seen_words, wrapper

__all__ = ["Given", "MutationBench", "Stimulus", "machine_bench"]


@dataclass(frozen=True, kw_only=True)
class Stimulus:
    """What goes into a component, and what has to come out.

    Parameters
    ----------
    files : Mapping[str, str]
        What the bench reads, by plus-argument.
    arguments : Mapping[str, str]
        Further plus-arguments.
    frames : int
        Answers to wait for.
    cycles : int
        Until they are there, about.
    wrong : Callable[[Path, Path], list[str]]
        What of a record, and of the frames, cycles and counters at its end, is not as both models say; empty without a fault.
    untold : Callable[[Path], list[int]]
        Numbers of the tokens of the first record that say so with all of their bits.
    """

    files: Mapping[str, str]
    arguments: Mapping[str, str] = field(default_factory=dict)
    frames: int
    cycles: int
    wrong: Callable[[Path, Path], list[str]]
    untold: Callable[[Path], list[int]] = lambda record: []


@dataclass(frozen=True, kw_only=True)
class MutationBench:
    """A component in its bench.

    Parameters
    ----------
    component, top : wiring.Component, str
        What is mutated, and the name of its module.
    sources : Mapping[str, str]
        Verilog around it, by file name: module ``tb``, with input ``mutant`` and outputs ``seen``, ``answered`` and ``cycle``.
    around : Surroundings
        What it may be given, and what is seen of it.
    stimuli : Sequence[Stimulus]
        What it is given, one after the other: each for those mutants that none before has found.
    names : Sequence[str]
        Names of what is recorded, by number.
    words : Sequence[int]
        Words of ``seen``: of each record, and of the counters.
    timed : bool
        Whether the checks compare cycles too.
    latency : tuple[int, int, int]
        Number of the record that says how long a frame took, and the first bit and the one after the last that do.
    clocks : Sequence[SourceFault]
        What makes the component's clocks other ones, none of which is a fault.
    """

    component: wiring.Component
    top: str
    sources: Mapping[str, str]
    around: Surroundings
    stimuli: Sequence[Stimulus]
    names: Sequence[str]
    words: Sequence[int]
    timed: bool = True
    latency: tuple[int, int, int] = (-1, 0, 0)
    clocks: Sequence[SourceFault] = ()


@dataclass(frozen=True, kw_only=True)
class Given:
    """Frames for a machine.

    Parameters
    ----------
    frames : Sequence[Events]
        The frames.
    idle, stall : float
        Chance a cycle that nothing comes, and that nothing is taken.
    seed : int
        When that is.
    ports : int
        Mask of the links that are watched.
    earlier : int
        Cycles for which the frames come, the last one first, before the machine is reset and all begins: memories keep what they
        have then.
    """

    frames: Sequence[Events]
    idle: float = 0.0
    stall: float = 0.0
    seed: int = 1
    ports: int = -1
    earlier: int = 0


def machine_bench(network: Network, plan: Plan, given: Sequence[Given]) -> MutationBench:
    """A whole machine in the bench of co-simulation, compared as there: every spike, event and cycle, answers and counters."""
    machine = machine_of(network, plan)
    sources = {"tb.v": wrapper(machine, mutant_width=WIDTH)}
    if isinstance(machine, FoldedMachine) and machine.folded.single_words:
        sources["cells.v"] = cell_models(["SB_SPRAM256KA"], ICE40)
    return MutationBench(
        component=machine,
        top="machine",
        sources=sources,
        around=machine_surroundings(machine),
        stimuli=[_stimulus(machine, each) for each in given],
        names=records(machine),
        words=seen_words(machine),
        latency=_latency(machine),
        clocks=[LATE_CLOCK],
    )


def _stimulus(machine: AnyMachine, given: Given) -> Stimulus:
    network, plan = machine.network, machine.plan
    traces = [run_fast(network, frame) for frame in given.frames]
    idles, stalls = int(given.idle * 65536), int(given.stall * 65536)
    every = watch_mask(machine) if plan.watch else 0
    watch = every & given.ports
    events = [trace.events for trace in traces]
    expected = cycles(network, plan, events, idle=idles, stall=stalls, seed=given.seed, watch=watch, record=True)

    def wrong(record: Path, progress: Path) -> list[str]:
        result, _ = score_record(machine, traces, expected, record, progress, "rtl", "verilator", given.seed, watch)
        return [result.report] if result.report else []

    return Stimulus(
        files={
            "tokens": "".join(host_tokens(machine, trace.events) for trace in traces),
            "weights": "".join(f"{word:x}\n" for word in loaded_weights(machine)),
            "earlier": "".join(host_tokens(machine, trace.events) for trace in reversed(traces)),
        },
        arguments={
            "idle": f"{idles}",
            "stall": f"{stalls}",
            "source_seed": f"{given.seed}",
            "watch": f"{watch:x}",
            "earlier_cycles": f"{given.earlier}",
        },
        frames=len(traces),
        cycles=int(expected.answered[-1]) + given.earlier,
        wrong=wrong,
    )


def _latency(machine: AnyMachine) -> tuple[int, int, int]:
    """Where a result says how many cycles its frame took."""
    of = machine.result.payload.shape()["cycles"]
    return records(machine).index(RESULT), of.offset, of.offset + of.width
