"""Spike-for-spike co-simulation: a whole machine, as RTL or as netlist after synthesis, against the golden model, on real frames.

Every spike of every layer and every event on every link is compared, in order, with the answers and the saturation
counters; and the cycle in which each passes, with the cycle model. A difference is reported where it first appears, and
simulated again with waveforms.
"""

import json
import sys
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from amaranth.hdl import UnusedElaboratable
from rich.console import Console
from rich.progress import Progress, TaskID

from hw.aer import Kind
from hw.flow.families.base import Family
from hw.flow.families.ecp5 import ECP5
from hw.flow.families.ice40 import ICE40
from hw.flow.families.registry import FAMILIES, family_named
from hw.flow.verilog import machine_verilog
from hw.folded.machine import FoldedMachine
from hw.machines import AnyMachine, machine_of
from model.encode import encode
from model.engine.engine import run_fast
from model.events import Events
from model.golden import Trace
from model.machine.named_plans import load_plan
from model.machine.pipeline_cycles import Cycles
from model.machine.pipeline_cycles import simulate as cycles
from model.machine.plan import Plan, PlanError
from model.network import Network, Neurons
from model.support.cli import command
from model.support.datasets import DataError, load
from model.support.errors import Exit, MismatchError, fail
from sim.netlist import cell_models, machine_netlist
from sim.recorder import RESULT, WATCHED, records, wrapper
from sim.scoreboard import Divergence, compare, compare_cycles, decode
from sim.scoreboard import field as payload_field
from sim.simulators import SIMULATORS, Simulation, build, check_simulator

__all__ = ["LEVELS", "VerifyResult", "real_frames", "verify"]

# Here machines are read, not built: their Verilog comes from the cache.
warnings.simplefilter("ignore", UnusedElaboratable)

CACHE = Path("build") / "cache"
"""Where compiled simulations, generated Verilog and netlists are kept."""

LEVELS = ("rtl", "netlist")
"""What can be simulated: the Verilog of a machine, or what synthesis for a family makes of it."""

SLICE_CYCLES = {"rtl": 20_000, "netlist": 1_000}
"""How often it is asked whether a simulation is done: netlists take far longer for a cycle."""


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """What a verification found.

    Parameters
    ----------
    level : what was simulated, one of `LEVELS`
    frames : frames simulated
    spikes_compared : spikes of layers compared, each once
    events_compared : events on links compared, each once
    mismatches : everything that differs: spikes, events, ends of frames, answers, saturation counters
    cycles_compared : cycles of tokens compared with the cycle model's: spikes in groups, events, ends, answers, copies
    cycle_mismatches : tokens that pass in another cycle than the cycle model says, or are missing or too many
    cycles_per_frame_mean : cycles from the first token taken to the last answer, over the frames
    cycles_per_frame : from one answer to the next (the first: from the first token)
    latency_cycles_mean : from a frame's first token to its answer
    report : what went wrong, None where nothing did
    waveform : waveform file of the divergence
    answers : the machine's answers
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
    cycles_per_frame: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    report: str | None = None
    waveform: str | None = None


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
    cache: Path = CACHE,
    verilog: str | None = None,
    progress: Callable[[int], None] | None = None,
    line: Callable[[str], None] | None = None,
) -> VerifyResult:
    """Simulate frames back to back and compare.

    Parameters
    ----------
    network, plan : what to verify
    images : uint8 frames, or sequences of input events
    level : one of `LEVELS`
    family : for which family of devices the netlist is synthesized
    simulator : one of `SIMULATORS`
    out_dir : where records, logs and waveforms go
    seed : of idle source and stalled sinks
    idle, stall : chance in a cycle that the source is idle, that a sink is stalled
    watch : watch every link too, and compare what is watched
    cache : where compiled simulations and netlists are kept
    verilog : test this Verilog in place of the machine's own (to plant faults); of the netlist, where that is the level
    progress : called with the number of frames answered so far
    line : called with what is being done, and with each line that Yosys prints

    Raises
    ------
    MultiplierError, ToolError : synthesis failed
    SimulationError : the build failed, or the machine hangs
    """
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, not {level!r}")
    check_simulator(simulator)
    machine = machine_of(network, plan)
    own = verilog is None
    if watch and not plan.watch:
        raise PlanError(f"plan {plan.name!r}: watch must be true to watch the links")
    loaded = isinstance(machine, FoldedMachine) and machine.folded.single_words > 0
    if level == "netlist" and loaded and not family.LARGE_BLOCK:
        known = ", ".join(name for name, other in FAMILIES.items() if other.LARGE_BLOCK)
        raise PlanError(f"plan {plan.name!r}: family must be one with large memories ({known}), not {family.NAME!r}")
    frames = [run_fast(network, image if _is_events(image) else encode(network, image)) for image in images]
    tell = line or (lambda text: None)
    if level == "rtl":
        sources = {"machine.v": machine_verilog(network, plan, cache) if verilog is None else verilog}
    else:
        tell("synthesis")
        out_dir.mkdir(parents=True, exist_ok=True)
        netlist = machine_netlist(machine, cache=cache, log=out_dir / "synthesis.log", line=line, family=family)
        sources = {"machine.v": netlist.verilog if verilog is None else verilog, "cells.v": netlist.models}
        tell("cells: " + ", ".join(f"{count:,} {cell}" for cell, count in sorted(netlist.cells.items())))
    weights: list[int] = []
    if isinstance(machine, FoldedMachine) and machine.folded.single_words:
        weights = machine.folded.single_weights()
        if level == "rtl":
            sources["cells.v"] = cell_models(["SB_SPRAM256KA"], ICE40)
    sources["tb.v"] = wrapper(machine)
    options = {"idle": int(idle * 65536), "stall": int(stall * 65536), "source_seed": seed}

    def simulate(simulation: Simulation, count: int, folder: Path) -> tuple[Path, Path | None]:
        folder.mkdir(parents=True, exist_ok=True)
        tokens, record = folder / "tokens.txt", folder / "record.txt"
        tokens.write_text("".join(_tokens(machine, frame.events) for frame in frames[:count]))
        (folder / "weights.txt").write_text("".join(f"{word:x}\n" for word in weights))
        told = folder / "progress.txt"
        told.unlink(missing_ok=True)
        stop = threading.Event()
        teller = threading.Thread(target=_tell, args=(told, progress, stop), daemon=True)
        teller.start()
        try:
            waves = simulation.run(
                "sim.bench",
                folder,
                [
                    f"+tokens={tokens.resolve()}",
                    f"+record={record.resolve()}",
                    f"+weights={(folder / 'weights.txt').resolve()}",
                    *(f"+{name}={value}" for name, value in options.items()),
                    f"+watch={_watch_mask(machine) if watch else 0:x}",
                ],
                {
                    "TALLY_FRAMES": str(count),
                    "TALLY_PROGRESS": str(told.resolve()),
                    "TALLY_SLICE_CYCLES": str(SLICE_CYCLES[level]),
                },
            )
        finally:
            stop.set()
            teller.join()
        return record, waves

    tell(f"compiling for {simulator}")
    simulation = build(simulator, top="tb", sources=sources, cache=cache)
    tell(f"simulating with {simulator}")
    record, _ = simulate(simulation, len(frames), out_dir)
    expected = cycles(
        network,
        plan,
        [frame.events for frame in frames],
        idle=options["idle"],
        stall=options["stall"],
        seed=seed,
        watch=_watch_mask(machine) if watch else 0,
        record=True,
    )
    result, divergence = _score(machine, frames, expected, record, out_dir / "progress.txt", level, simulator, seed, watch)
    if not result.mismatches and not result.cycle_mismatches:
        return result
    traced = build(simulator, top="tb", sources=sources, cache=cache, waves=True)
    _, waveform = simulate(traced, divergence.frame + 1 if divergence else len(frames), out_dir / "waves")
    report = f"{result.report}\n  waveform        {waveform}" + ("" if own else "\n  (Verilog handed in)")
    (out_dir / "divergence.txt").write_text(report + "\n")
    return VerifyResult(**{**asdict(result), "report": report, "waveform": str(waveform) if waveform else None})


def _is_events(frame: object) -> bool:
    return isinstance(frame, np.ndarray) and frame.dtype.names is not None


def _watch_mask(machine: AnyMachine) -> int:
    return (1 << len(machine.network.layers) + 1) - 1


def _tokens(machine: AnyMachine, events: Events) -> str:
    """A frame as host tokens for port 0, one a line, in hexadecimal."""
    layout, shape = machine.host.payload.shape(), machine.network.input_shape
    lines = []
    for event in events:
        y, x, c = shape.coordinates(event["address"])
        value = layout.const(
            {"port": 0, "kind": Kind.SPIKE, "negative": int(event["sign"] < 0), "y": y, "x": x, "c": c}
        )
        lines.append(f"{value.as_value().value:x}\n")
    end = layout.const({"port": 0, "kind": Kind.END, "negative": 0, "y": 0, "x": 0, "c": 0})
    return "".join(lines) + f"{end.as_value().value:x}\n"


def _tell(path: Path, progress: Callable[[int], None] | None, stop: threading.Event) -> None:
    while progress and not stop.wait(0.2):
        if path.exists() and (text := path.read_text()):
            progress(int(text.split()[0]))


def _score(
    machine: AnyMachine,
    frames: Sequence[Trace],
    cycles: Cycles,
    record: Path,
    progress: Path,
    level: str,
    simulator: str,
    seed: int,
    watch: bool,
) -> tuple[VerifyResult, Divergence | None]:
    network = machine.network
    by_name: dict[str, list[tuple[int, int]]] = defaultdict(list)
    names = records(machine)
    with record.open() as lines:
        for line in lines:
            record_number, cycle, text = line.split()
            by_name[names[int(record_number)]].append((int(cycle), _hexadecimal(text)))
    found = {trace.name: decode(network, trace, by_name[trace.name]) for trace in machine.traces}
    score = compare(network, frames, machine.traces, found)
    mismatches, notes, first = score.mismatches, [], score.first
    if watch:
        watched = _watched(machine, by_name[WATCHED])
        again = compare(network, frames, [t for t in machine.traces if t.form == "events"], watched)
        mismatches += again.mismatches
        if again.mismatches:
            notes.append(f"watched events: {again.mismatches} differ")
            first = first or again.first

    layout = machine.result.payload.shape()
    answers, latencies = [], []
    for number, (_, payload) in enumerate(by_name[RESULT]):
        view = layout.from_bits(payload)
        counts = [int(count) for count in view.counts]
        answers.append(int(view.answer))
        latencies.append(int(view.cycles))
        if number >= len(frames) or (answers[-1], counts) != (frames[number].answer, frames[number].counts.tolist()):
            mismatches += 1
            expected = frames[number] if number < len(frames) else None
            notes.append(
                f"frame {number}: answer {answers[-1]}, counts {counts}; expected "
                + (f"{expected.answer}, {expected.counts.tolist()}" if expected else "no more answers")
            )
    if len(answers) < len(frames):
        mismatches += len(frames) - len(answers)
        notes.append(f"{len(answers)} of {len(frames)} frames answered")
    saturations = int(progress.read_text().split()[1])
    for index, layer in enumerate(la for la in network.layers if isinstance(la, Neurons)):
        expected_count = min(sum(frame.layers[layer.name].saturated_events for frame in frames), 0xFFFF)
        if (saturations >> 16 * index & 0xFFFF) != expected_count:
            mismatches += 1
            notes.append(
                f"layer {layer.name}: {saturations >> 16 * index & 0xFFFF} saturated events, expected {expected_count}"
            )
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
        cycles_per_frame=spans,
        answers=answers,
        report=report,
    ), first


def _hexadecimal(text: str) -> int:
    """A payload; undefined bits, which Icarus writes as x or z, must not occur in what passes."""
    try:
        return int(text, 16)
    except ValueError:
        raise MismatchError(f"undefined bits in a record: {text}") from None


def _watched(machine: AnyMachine, found: Sequence[tuple[int, int]]) -> dict[str, list]:  # type: ignore[type-arg]
    """What was watched, taken apart by port, as tokens of the links' traces."""
    layout = machine.watched.payload.shape()
    links = {trace.layer: trace for trace in machine.traces if trace.form == "events"}
    names = ["input", *(layer.name for layer in machine.network.layers)]
    parts: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for cycle, payload in found:
        name = names[payload_field(layout, payload, "port")]
        link = links[name].layout
        packed = 0
        for part in ("kind", "negative", "y", "x", "c"):
            packed |= payload_field(layout, payload, part) << link[part].offset
        parts[name].append((cycle, packed))
    return {trace.name: decode(machine.network, trace, parts[layer]) for layer, trace in links.items()}


def real_frames(
    network: Network, dataset: str | None, data_dir: Path | None, count: int | None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], str]:
    """The first ``count`` test frames, or all of them, their labels, and the data set's name; without a name, MNIST where it
    is found on this machine and the bundled digits where not.

    Raises
    ------
    DataError : no such data, too few frames, or of the wrong shape
    """
    if dataset is None:
        try:
            data = load("mnist", "test", data_dir)
        except DataError:
            data = load("digits5k", "test")
    else:
        data = load(dataset, "test", data_dir)
    if data.images.shape[1:] != tuple(network.input_shape):
        raise DataError(
            f"frames of {data.name} must have the network's input shape {tuple(network.input_shape)}, "
            f"not {tuple(data.images.shape[1:])}"
        )
    if count is not None and count > len(data.images):
        raise DataError(f"frames must be within 1..{len(data.images)} for {data.name}, not {count}")
    return data.images[:count], data.labels[:count], data.name


class _Teller:
    """Tells what is being done: behind the bar's name on a terminal, in a line now and then where there is none."""

    PAUSE_SECONDS = 20

    def __init__(self, bar: Progress, task: TaskID, label: str) -> None:
        self._bar, self._task, self._label = bar, task, label
        self._told = time.monotonic()

    def line(self, text: str) -> None:
        """What is being done; most of it is Yosys', and not worth a line each."""
        if not self._bar.disable:
            self._bar.update(self._task, description=f"{self._label}: {text.strip()[:60]}")
        elif time.monotonic() - self._told > self.PAUSE_SECONDS and text.strip():
            self._told = time.monotonic()
            print(f"{self._label}: {text.strip()[:100]}", file=sys.stderr, flush=True)

    def frames(self, done: int) -> None:
        """How many frames are answered."""
        self._bar.update(self._task, completed=done, description=self._label)


HELP = """Compare the hardware with the golden model, spike for spike, and with the cycle model, cycle for cycle.

With --level netlist the hardware is what synthesis makes of it, for the family that --family names, made of models of its cells.
For small plans: the bundled network with 32 lanes in fc1 and one elsewhere takes ten minutes, until it is kept and a second run
only simulates.
"""


@command(help=HELP)
@click.argument("net", type=click.Path(path_type=Path))
@click.option(
    "--frames", default=4, show_default=True, type=click.IntRange(1), help="Frames to simulate, back to back."
)
@click.option(
    "--plan",
    "plan_name",
    default="default",
    show_default=True,
    metavar="PLAN",
    help="minimal (one lane a core), default, fast (an event a cycle), or a .json file.",
)
@click.option("--simulator", default="verilator", show_default=True, type=click.Choice([*SIMULATORS, "both"]))
@click.option("--level", default="rtl", show_default=True, type=click.Choice(LEVELS), help="What is simulated.")
@click.option(
    "--family", default="ecp5", show_default=True, type=click.Choice(list(FAMILIES)), help="For which a netlist is synthesized."
)
@click.option("--dataset", metavar="DATA", help="mnist, digits5k or an .npz file; mnist where it is found.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="First folder to look for the MNIST files in.")
@click.option("--seed", default=1, show_default=True, help="Seed of idle source and stalled sinks.")
@click.option(
    "--idle",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 0.99),
    help="Chance of an idle cycle of the source.",
)
@click.option(
    "--stall",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 0.99),
    help="Chance of a stalled cycle of a sink.",
)
@click.option("--watch", is_flag=True, help="Watch every link through the host port, and compare that too.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for records, logs, waveforms; build/NAME/verify by default."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(
    net: Path,
    frames: int,
    plan_name: str,
    simulator: str,
    level: str,
    family: str,
    dataset: str | None,
    data_dir: Path | None,
    seed: int,
    idle: float,
    stall: float,
    watch: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """See the help text above."""
    console = Console(stderr=True)
    results = []
    network = Network.load(net)
    plan = load_plan(network, plan_name)
    images, labels, data_name = real_frames(network, dataset, data_dir, frames)
    suffix = "" if level == "rtl" else f"-{level}"
    for name in SIMULATORS if simulator == "both" else (simulator,):
        folder = (out or Path("build") / network.name / "verify") / f"{plan.name}-{name}{suffix}"
        if not console.is_terminal:
            print(
                f"{name}: building and simulating {frames} frames of {data_name}, plan {plan.name}, level {level}",
                file=sys.stderr,
            )
        with Progress(console=console, disable=not console.is_terminal) as bar:
            label = f"{name}, plan {plan.name}" + ("" if level == "rtl" else f", {level}")
            teller = _Teller(bar, bar.add_task(label, total=frames), label)
            result = verify(
                network,
                plan,
                images,
                level=level,
                family=family_named(family),
                simulator=name,
                out_dir=folder,
                seed=seed,
                idle=idle,
                stall=stall,
                watch=watch,
                progress=teller.frames,
                line=teller.line,
            )
        results.append(result)
        right = sum(int(a) == int(b) for a, b in zip(result.answers, labels, strict=False))
        (folder / "verify.json").write_text(json.dumps(asdict(result), indent=2) + "\n")
        if not as_json:
            print(
                f"{label} ({plan.lanes} lanes): {result.frames} frames of {data_name} ({right} right), "
                f"{result.spikes_compared:,} spikes and {result.events_compared:,} events compared, "
                f"{result.mismatches} mismatches; {result.cycles_compared:,} cycles compared, "
                f"{result.cycle_mismatches} mismatches; {result.cycles_per_frame_mean:,.1f} cycles a frame"
            )
    if as_json:
        told = [asdict(result) for result in results]
        print(json.dumps(told[0] if len(told) == 1 else told, indent=2))
    for result in results:
        if result.mismatches or result.cycle_mismatches:
            print(result.report, file=sys.stderr)
            model = "golden model" if result.mismatches else "cycle model"
            fail(Exit.MISMATCH, f"{net}: the {result.simulator} simulation ({result.level}) differs from the {model}")


if __name__ == "__main__":
    main()
