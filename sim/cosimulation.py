"""Spike-for-spike co-simulation: a whole machine, as RTL or as netlist after synthesis, against the golden model, on real frames.

Every spike of every layer and every event on every link is compared, in order, with the answers and the saturation
counters; and the cycle in which each passes, with the cycle model. A difference is reported where it first appears, and
simulated again with waveforms.
"""

import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import UnusedElaboratable

from hw.aer import Kind
from hw.flow.families.base import Family
from hw.flow.families.ecp5 import ECP5
from hw.flow.families.ice40 import ICE40
from hw.flow.families.registry import FAMILIES
from hw.flow.verilog import machine_verilog
from hw.folded.machine import FoldedMachine
from hw.machines import AnyMachine, machine_of
from model.encode import encode
from model.engine.engine import Stream, run_fast
from model.events import Events
from model.golden import Trace
from model.machine.barrier_schedule import tokens_of
from model.machine.barrier_tokens import Tokens
from model.machine.barriers import barred
from model.machine.cycles import Cycles
from model.machine.limits import SATURATIONS_WIDTH
from model.machine.plan import Plan, PlanError
from model.machine.simulate import simulate as cycles
from model.machine.stages import ports as link_ports
from model.network import INPUT, Network, Neurons
from model.support.cache import alone
from model.support.errors import MismatchError
from model.support.files import write_file
from sim.choices import LEVELS
from sim.coverage import Coverage, coverage
from sim.netlist import cell_models, machine_netlist
from sim.recorder import RESULT, WATCHED, records, wrapper
from sim.scoreboard import Divergence, compare, compare_cycles, decode, places
from sim.simulators import Simulation, build, check_simulator
from sim.watchdog import PATIENCE_CYCLES, Watchdog

__all__ = ["CACHE", "LEVELS", "VerifyResult", "host_tokens", "loaded_weights", "score_record", "verify", "watch_mask"]

# Here machines are read, not built: their Verilog comes from the cache.
warnings.simplefilter("ignore", UnusedElaboratable)

CACHE = Path("build") / "cache"
"""Where compiled simulations, generated Verilog and netlists are kept."""

SLICE_CYCLES = {"rtl": 20_000, "netlist": 1_000}
"""How often at least it is asked whether a simulation is done: netlists take far longer for a cycle."""

_LOOKS, _SHORTEST_SLICE = 16, 500
"""A simulation that is expected to be short is looked at as many times, but not more often than so many cycles."""


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """What a verification found.

    Parameters
    ----------
    level : str
        What was simulated, one of `LEVELS`.
    frames : int
        Frames simulated.
    spikes_compared : int
        Spikes of layers compared, each once.
    events_compared : int
        Events on links compared, each once.
    mismatches : int
        Everything that differs: spikes, events, ends of frames, answers, saturation counters.
    cycles_compared : int
        Cycles of tokens compared with the cycle model's: spikes in groups, events, ends, answers, copies.
    cycle_mismatches : int
        Tokens that pass in another cycle than the cycle model says, or are missing or too many.
    cycles_per_frame_mean : float
        Cycles from the first token taken to the last answer, over the frames.
    cycles_per_frame : list[int]
        From one answer to the next (the first: from the first token).
    latency_cycles_mean : float
        From a frame's first token to its answer.
    report : str | None
        What went wrong, None where nothing did.
    waveform : str | None
        Waveform file of the divergence.
    answers : list[int]
        The machine's answers.
    coverage : Coverage
        Which of the rare things happened.
    """

    network: str
    plan: str
    level: str
    simulator: str
    seed: int
    frames: int
    spikes_compared: int
    events_compared: int
    mismatches: int
    cycles_compared: int
    cycle_mismatches: int
    cycles_per_frame_mean: float
    latency_cycles_mean: float
    coverage: Coverage
    cycles_per_frame: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    report: str | None = None
    waveform: str | None = None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "VerifyResult":
        """What ``asdict`` made of one."""
        return cls(**{**fields, "coverage": Coverage.of(fields["coverage"])})


def verify(
    network: Network,
    plan: Plan,
    images: npt.NDArray[np.uint8] | Sequence[Events],
    *,
    level: str = "rtl",
    family: Family = ECP5,
    simulator: str = "verilator",
    out_dir: Path,
    seed: int = 1,
    idle: float = 0.0,
    stall: float = 0.0,
    watch: bool = False,
    ports: int = -1,
    cache: Path = CACHE,
    verilog: str | None = None,
    progress: Callable[[int], None] | None = None,
    line: Callable[[str], None] | None = None,
) -> VerifyResult:
    """Simulate frames back to back and compare.

    Parameters
    ----------
    network, plan : Network, Plan
        What to verify.
    images : npt.NDArray[np.uint8] | Sequence[Events]
        uint8 frames, or sequences of input events.
    level : str
        One of `LEVELS`.
    family : Family
        For which family of devices the netlist is synthesized.
    simulator : str
        One of `SIMULATORS`.
    out_dir : Path
        Where records, logs and waveforms go.
    seed : int
        Of idle source and stalled sinks.
    idle, stall : float
        Chance in a cycle that the source is idle, that a sink is stalled.
    watch : bool
        Watch links too, and compare what is watched.
    ports : int
        Mask of the ports that are watched then; all by default.
    cache : Path
        Where compiled simulations and netlists are kept.
    verilog : str | None
        Test this Verilog in place of the machine's own (to plant faults); of the netlist, where that is the level.
    progress : Callable[[int], None] | None
        Called with the number of frames answered so far.
    line : Callable[[str], None] | None
        Called with what is being done, and with each line that Yosys prints.

    Raises
    ------
    MultiplierError, ToolError : synthesis failed
    SimulationError, MismatchError : the build failed, or the simulator stopped; the machine hangs
    """
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, not {level!r}")
    check_simulator(simulator)
    machine = machine_of(network, plan)
    if watch and not plan.watch:
        raise PlanError(f"plan {plan.name!r}: watch must be true to watch the links")
    if level == "netlist":
        _check_family(machine, family)
    frames = [run_fast(network, image if _is_events(image) else encode(network, image)) for image in images]
    tell = line or (lambda text: None)
    sources = _sources(machine, level=level, family=family, cache=cache, verilog=verilog, out_dir=out_dir, line=line)
    bench = _Bench(
        machine=machine,
        frames=frames,
        slice_cycles=SLICE_CYCLES[level],
        idle=int(idle * 65536),
        stall=int(stall * 65536),
        seed=seed,
        watch=watch_mask(machine) & ports if watch else 0,
        progress=progress,
        line=lambda text: tell(f"simulating with {simulator}{text}"),
    )
    tell("running the cycle model")
    expected = bench.expected()
    watchdog = _watchdog(machine, expected)
    tell(f"compiling for {simulator}")
    simulation = build(simulator, top="tb", sources=sources, cache=cache)
    # Two that run in one folder would read each other's records.
    with alone(out_dir / "record.txt"):
        told = out_dir / "divergence.txt"
        told.unlink(missing_ok=True)
        record, _ = bench.run(simulation, len(frames), out_dir, watchdog)
        result, divergence = score_record(
            machine, frames, expected, record, out_dir / "progress.txt", level, simulator, seed, bench.watch
        )
        if not result.mismatches and not result.cycle_mismatches:
            return result
        traced = build(simulator, top="tb", sources=sources, cache=cache, waves=True)
        _, waveform = bench.run(traced, divergence.frame + 1 if divergence else len(frames), out_dir / "waves", watchdog)
        report = f"{result.report}\n  waveform        {waveform}" + ("" if verilog is None else "\n  (Verilog handed in)")
        write_file(told, report + "\n")
    return replace(result, report=report, waveform=str(waveform) if waveform else None)


def _check_family(machine: AnyMachine, family: Family) -> None:
    """Refuse a family whose devices have not the memories of a machine."""
    if isinstance(machine, FoldedMachine) and machine.folded.single_words and not family.LARGE_BLOCK:
        known = ", ".join(name for name, other in FAMILIES.items() if other.LARGE_BLOCK)
        raise PlanError(f"plan {machine.plan.name!r}: family must be one with large memories ({known}), not {family.NAME!r}")
    family.check_memories(machine.plan)


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """A machine, the frames that go in, and how its source and sinks behave.

    Parameters
    ----------
    machine : AnyMachine
        What is simulated.
    frames : Sequence[Trace]
        Of the golden model; their events are the input.
    slice_cycles : int
        How often at least it is asked whether the simulation is done, in cycles.
    idle, stall : int
        Chance in a cycle that the source is idle, that a sink is stalled, in 1/65536.
    seed : int
        Of idle source and stalled sinks.
    watch : int
        Mask of the watched ports.
    progress : Callable[[int], None] or None
        Called with the number of frames answered so far.
    line : Callable[[str], None]
        Called at the beginning, and with the cycle that is simulated.
    """

    machine: AnyMachine
    frames: Sequence[Trace]
    slice_cycles: int
    idle: int
    stall: int
    seed: int
    watch: int
    progress: Callable[[int], None] | None
    line: Callable[[str], None]

    def expected(self) -> Cycles:
        """What the cycle model says of all frames."""
        return cycles(
            self.machine.network,
            self.machine.plan,
            [frame.events for frame in self.frames],
            idle=self.idle,
            stall=self.stall,
            seed=self.seed,
            watch=self.watch,
            record=True,
        )

    def run(self, simulation: Simulation, count: int, folder: Path, watchdog: Watchdog) -> tuple[Path, Path | None]:
        """Simulate the first ``count`` frames; gives the record, and the waveform file if there is one."""
        folder.mkdir(parents=True, exist_ok=True)
        tokens, record, weights = folder / "tokens.txt", folder / "record.txt", folder / "weights.txt"
        write_file(tokens, "".join(host_tokens(self.machine, frame.events) for frame in self.frames[:count]))
        write_file(weights, "".join(f"{word:x}\n" for word in loaded_weights(self.machine)))
        told = folder / "progress.txt"
        told.unlink(missing_ok=True)
        # Cycles after the last answer are simulated for nothing.
        looks = min(self.slice_cycles, max(watchdog.cycles // _LOOKS, _SHORTEST_SLICE))
        self.line("")
        stop = threading.Event()
        teller = threading.Thread(target=self._tell, args=(told, watchdog.cycles, stop), daemon=True)
        teller.start()
        try:
            waves = simulation.run(
                "sim.bench",
                folder,
                [
                    f"+tokens={tokens.resolve()}",
                    f"+record={record.resolve()}",
                    f"+weights={weights.resolve()}",
                    f"+idle={self.idle}",
                    f"+stall={self.stall}",
                    f"+source_seed={self.seed}",
                    f"+watch={self.watch:x}",
                ],
                {
                    "TALLY_FRAMES": str(count),
                    "TALLY_PROGRESS": str(told.resolve()),
                    "TALLY_SLICE_CYCLES": str(looks),
                    "TALLY_PAUSE_CYCLES": str(watchdog.pause),
                    "TALLY_ALL_CYCLES": str(watchdog.cycles),
                    "TALLY_PATIENCE_CYCLES": str(watchdog.patience),
                },
            )
        finally:
            stop.set()
            teller.join()
        return record, waves

    def _tell(self, path: Path, cycles: int, stop: threading.Event) -> None:
        """Tell how many of the ``cycles`` are simulated, by the file at ``path``, until ``stop``."""
        while not stop.wait(0.2):
            if path.exists() and (text := path.read_text()):
                answered, cycle = map(int, text.split()[:2])
                if self.progress:
                    self.progress(answered)
                self.line(f", cycle {min(cycle, cycles):,} of {cycles:,}")


def _watchdog(machine: AnyMachine, expected: Cycles) -> Watchdog:
    """When the machine hangs, which should do as the cycle model; first it reads what was loaded, to check it."""
    every = np.sort(np.concatenate([[0], *expected.passed.values(), expected.watched, expected.answered]))
    checked = machine.folded.single_words if isinstance(machine, FoldedMachine) else 0
    pause = max(int(np.diff(every).max()), checked)
    return Watchdog(pause=pause, cycles=int(expected.answered[-1]), patience=PATIENCE_CYCLES)


def loaded_weights(machine: AnyMachine) -> list[int]:
    """The words that have to be loaded before the first frame."""
    if isinstance(machine, FoldedMachine) and machine.folded.single_words:
        return machine.folded.single_weights()
    return []


def _sources(
    machine: AnyMachine,
    *,
    level: str,
    family: Family,
    cache: Path,
    verilog: str | None,
    out_dir: Path,
    line: Callable[[str], None] | None,
) -> dict[str, str]:
    """The Verilog files of a simulation: the machine (or ``verilog`` in its place), models of its cells, and the bench."""
    tell = line or (lambda text: None)
    if level == "rtl":
        sources = {"machine.v": verilog or machine_verilog(machine.network, machine.plan, cache)}
        if isinstance(machine, FoldedMachine) and machine.folded.single_words:
            sources["cells.v"] = cell_models(["SB_SPRAM256KA"], ICE40)
    else:
        tell("synthesis")
        out_dir.mkdir(parents=True, exist_ok=True)
        netlist = machine_netlist(machine, cache=cache, log=out_dir / "synthesis.log", line=line, family=family)
        sources = {"machine.v": verilog or netlist.verilog, "cells.v": netlist.models}
        tell("cells: " + ", ".join(f"{count:,} {cell}" for cell, count in sorted(netlist.cells.items())))
    return {**sources, "tb.v": wrapper(machine)}


def _is_events(frame: object) -> bool:
    return isinstance(frame, np.ndarray) and frame.dtype.names is not None


def watch_mask(machine: AnyMachine) -> int:
    """All links, for the host to watch."""
    return (1 << len(machine.network.layers) + 1) - 1


def host_tokens(machine: AnyMachine, events: Events) -> str:
    """A frame as host tokens for port 0, one a line, in hexadecimal."""
    shape = machine.network.input_shape
    at = {name: first for name, (first, _) in places(machine.host.payload.shape()).items()}
    spike, end = (int(kind.value) << at["kind"] for kind in (Kind.SPIKE, Kind.END))  # type: ignore[attr-defined]
    lines = []
    for address, sign in zip(events["address"].tolist(), events["sign"].tolist(), strict=True):
        y, x, c = shape.coordinates(address)
        lines.append(f"{spike | int(sign < 0) << at['negative'] | y << at['y'] | x << at['x'] | c << at['c']:x}\n")
    return "".join(lines) + f"{end:x}\n"


def score_record(
    machine: AnyMachine,
    frames: Sequence[Trace],
    cycles: Cycles,
    record: Path,
    progress: Path,
    level: str,
    simulator: str,
    seed: int,
    watch: int,
) -> tuple[VerifyResult, Divergence | None]:
    """What a record shows against the golden frames and the cycle model, and where it first differs.

    Parameters
    ----------
    machine, frames, cycles : AnyMachine, Sequence[Trace], Cycles
        What was simulated, and what both models say.
    record, progress : Path
        What the bench left: all that passed; and frames answered, cycles and saturation counters.
    level, simulator, seed
        As of `verify`.
    watch : int
        Mask of the ports that were watched.
    """
    network = machine.network
    by_name: dict[str, list[tuple[int, int]]] = defaultdict(list)
    names = records(machine)
    with record.open() as lines:
        for line in lines:
            record_number, cycle, text = line.split()
            by_name[names[int(record_number)]].append((int(cycle), _hexadecimal(text)))
    found = {trace.name: decode(network, trace, by_name[trace.name]) for trace in machine.traces}
    score = compare(network, frames, machine.traces, found, barriers=_barriers(machine, frames))
    mismatches, notes, first = score.mismatches, [], score.first
    if watch:
        watched = _watched(machine, by_name[WATCHED])
        port_of = link_ports(network)
        links = [trace for trace in machine.traces if trace.form == "events" and watch >> port_of[trace.layer] & 1]
        again = compare(network, frames, links, watched)
        others = watched.keys() - {link.name for link in links}
        mismatches += sum(len(watched[name]) for name in others)
        mismatches += again.mismatches
        if again.mismatches:
            notes.append(f"watched events: {again.mismatches} differ")
            first = first or again.first

    answers, latencies, wrong = _answers(machine, frames, [payload for _, payload in by_name[RESULT]])
    wrong += _saturations(network, frames, int(progress.read_text().split()[2]))
    mismatches += sum(count for count, _ in wrong)
    notes += [note for _, note in wrong]
    of_cycles = {**cycles.passed, RESULT: cycles.answered, **({WATCHED: cycles.watched} if watch else {})}
    cycle_mismatches, cycle_note = compare_cycles(
        of_cycles, {name: [cycle for cycle, _ in by_name[name]] for name in of_cycles}
    )
    notes += [cycle_note] if cycle_note else []
    report = None
    if mismatches or cycle_mismatches:
        told = (
            first.report(network, frames[first.frame], seed=seed, plan=machine.plan.name, simulator=simulator)
            if first
            else ""
        )
        summary = f"{mismatches} mismatches, {cycle_mismatches} cycle mismatches"
        report = "\n".join([summary, *notes[:4], told]).rstrip()
    starts = by_name["events_input"][0][0] if by_name["events_input"] else 0
    ends = [cycle for cycle, _ in by_name[RESULT]]
    spans = [end - start for start, end in zip([starts, *ends], ends, strict=False)]
    return VerifyResult(
        network=network.name,
        plan=machine.plan.name,
        level=level,
        simulator=simulator,
        seed=seed,
        frames=len(frames),
        spikes_compared=score.spikes_compared,
        events_compared=score.events_compared,
        mismatches=mismatches,
        cycles_compared=sum(map(len, of_cycles.values())),
        cycle_mismatches=cycle_mismatches,
        cycles_per_frame_mean=round(float(np.mean(spans)), 1) if spans else 0.0,
        latency_cycles_mean=round(float(np.mean(latencies)), 1) if latencies else 0.0,
        coverage=coverage(network, machine.plan, frames, cycles),
        cycles_per_frame=spans,
        answers=answers,
        report=report,
    ), first


def _barriers(machine: AnyMachine, frames: Sequence[Trace]) -> dict[str, Tokens]:
    """Of each layer where barriers stand among its spikes, where there are any."""
    network, plan = machine.network, machine.plan
    if plan.folded or not barred(network):
        return {}
    streams = {INPUT: Stream.of([frame.events for frame in frames])}
    streams |= {layer.name: Stream.of([frame.layers[layer.name].spikes for frame in frames]) for layer in network.layers}
    return tokens_of(network, plan, streams)


def _answers(
    machine: AnyMachine, frames: Sequence[Trace], payloads: Sequence[int]
) -> tuple[list[int], list[int], list[tuple[int, str]]]:
    """The machine's answers, their latencies in cycles, and how many differ from the golden model's, with a note on each."""
    layout = machine.result.payload.shape()
    answers, latencies = [], []
    wrong: list[tuple[int, str]] = []
    for number, payload in enumerate(payloads):
        view = layout.from_bits(payload)
        counts = [int(count) for count in view.counts]
        answers.append(int(view.answer))
        latencies.append(int(view.cycles))
        expected = frames[number] if number < len(frames) else None
        if expected is None or (answers[-1], counts) != (expected.answer, expected.counts.tolist()):
            wanted = f"{expected.answer}, {expected.counts.tolist()}" if expected else "no more answers"
            wrong.append((1, f"frame {number}: answer {answers[-1]}, counts {counts}; expected {wanted}"))
    if missing := max(len(frames) - len(answers), 0):
        wrong.append((missing, f"{len(answers)} of {len(frames)} frames answered"))
    return answers, latencies, wrong


def _saturations(network: Network, frames: Sequence[Trace], found: int) -> list[tuple[int, str]]:
    """How many of the saturation counters differ from the golden model's, with a note on each."""
    wrong, most = [], (1 << SATURATIONS_WIDTH) - 1
    for index, layer in enumerate(la for la in network.layers if isinstance(la, Neurons)):
        expected = min(sum(frame.layers[layer.name].saturated_events for frame in frames), most)
        if (counted := found >> SATURATIONS_WIDTH * index & most) != expected:
            wrong.append((1, f"layer {layer.name}: {counted} saturated events, expected {expected}"))
    return wrong


def _hexadecimal(text: str) -> int:
    """A payload; undefined bits, which Icarus writes as x or z, must not occur in what passes."""
    try:
        return int(text, 16)
    except ValueError:
        raise MismatchError(f"undefined bits in a record: {text}") from None


def _watched(machine: AnyMachine, found: Sequence[tuple[int, int]]) -> dict[str, list]:  # type: ignore[type-arg]
    """What was watched, taken apart by port, as tokens of the links' traces."""
    fields = places(machine.watched.payload.shape())
    links = {trace.layer: trace for trace in machine.traces if trace.form == "events"}
    packing = {name: places(link.layout) for name, link in links.items()}
    names = ["input", *(layer.name for layer in machine.network.layers)]
    parts: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for cycle, payload in found:
        value = {name: payload >> at & mask for name, (at, mask) in fields.items()}
        name = names[value["port"]]
        packed = 0
        for part in ("kind", "negative", "y", "x", "c"):
            packed |= value[part] << packing[name][part][0]
        parts[name].append((cycle, packed))
    return {trace.name: decode(machine.network, trace, parts[layer]) for layer, trace in links.items()}
