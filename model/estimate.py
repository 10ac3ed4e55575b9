"""What a plan does, before any synthesis: cycles, frames a second, who waits for whom; and which plan to take.

All cycles are those of the cycle model, which `sim.verify` holds equal to the hardware's.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from model.engine.engine import Stream, run_streams
from model.golden import answers
from model.machine.energy import NOT_INCLUDED, energy
from model.machine.folded_layout import SINGLE_WORDS, Folded
from model.machine.named_plans import FOLDED, load_plan
from model.machine.pipeline_cycles import ACTIVITIES, Cycles, simulate
from model.machine.plan import Plan, PlanError
from model.machine.planner import Demand, Shortage, fastest, ladder, size_fifos, walker_cycles
from model.machine.stages import stages
from model.network import Network, Neurons
from model.reports.html import PLOTS, document, image, table
from model.support.cli import command, tell
from model.support.datasets import Dataset, load
from model.support.errors import BadInputError, DoesNotFitError, Exit, fail
from model.support.frames import suited

__all__ = ["Choice", "area_of", "estimate", "limits", "memories_of", "planned", "timeline"]

_SHOWN = 3
"""The frame whose timeline is drawn: by then all cores are at work."""

_CLOCK_MHZ, _FOLDED_CLOCK_MHZ = 60.0, 24.0
"""Clocks where none is asked for: what an ECP5 meets, and what an iCE40 UP5K does."""

_CALIBRATED = 100
"""Frames that FIFOs are sized on."""


@dataclass(frozen=True)
class Choice:
    """A plan that was chosen, and what it was chosen from.

    Parameters
    ----------
    plan : the plan
    considered : the plans from the smallest to the fastest, each with the cycles that its slowest walker takes for a mean frame
    """

    plan: Plan
    considered: list[tuple[float, Plan]]


def planned(
    network: Network,
    images: npt.NDArray[np.uint8],
    *,
    cycles: float | None = None,
    short_of: Shortage = lambda plan: [],
    tell: Callable[[str], None] = lambda text: None,
) -> Choice:
    """The smallest plan that takes at most ``cycles`` a mean frame; or the fastest that fits.

    Parameters
    ----------
    network : what to plan for
    images : uint8 calibration frames
    cycles : cycles a frame that must be met; None for as few as can be had
    short_of : what a plan needs more of than there is
    tell : told what goes on

    Raises
    ------
    PlanError : no plan is as fast; the message says what can be had
    DoesNotFitError : what is as fast does not fit, or nothing does
    """
    demand = Demand.of(network, images)
    plans = ladder(network, demand)
    some = images[:_CALIBRATED]
    if cycles is None:
        return Choice(size_fifos(network, fastest(network, demand, short_of), some, short_of)[0], plans)
    for pace, plan in plans:
        if pace > cycles:
            continue
        if short := short_of(plan):
            raise DoesNotFitError(
                f"{cycles:.0f} cycles a frame take {plan.lanes} lanes, which do not fit: short of {' and '.join(short)}"
            )
        # Together, cores can be slower than the slowest of them alone: then the next larger plan.
        sized, found = size_fifos(network, plan, some, short_of)
        tell(f"{sized.lanes} lanes: {found.cycles_per_frame:,.0f} cycles a frame, wanted {cycles:,.0f}")
        if found.cycles_per_frame <= cycles:
            return Choice(sized, plans)
    least, plan = plans[-1]
    raise PlanError(f"cycles a frame must be at least {least:.0f}, not {cycles:.0f}: the fastest plan has {plan.lanes} lanes")


def limits(
    network: Network,
    *,
    max_lanes: int | None = None,
    max_luts: int | None = None,
    board: str | None = None,
    folded: bool = False,
) -> Shortage:
    """What a plan of ``network`` needs more of than these allow, by the area model; a ``folded`` one, by its memories."""
    # The command puts the parts together, so it may know of hardware and boards; nothing else in `model` does.
    from boards.definitions import board_named
    from hw.flow.area import estimate_area

    device = board_named(board) if board else None
    if device is not None and folded:
        return lambda plan: device.short_of_folded(Folded.of(network, plan))
    if device is not None and not device.of_family.HAS_AREA_MODEL:
        raise BadInputError(f"board must be one that the area model knows, an ECP5, not {board!r} ({device.of_family.TITLE})")

    def short_of(plan: Plan) -> list[str]:
        short = []
        if max_lanes is not None and plan.lanes > max_lanes:
            short.append(f"{plan.lanes - max_lanes} lanes (needs {plan.lanes}, may have {max_lanes})")
        if max_luts is None and device is None:
            return short
        area = estimate_area(network, plan)
        if max_luts is not None and area.luts > max_luts:
            short.append(f"{area.luts - max_luts} LUTs (needs {area.luts}, may have {max_luts})")
        if device is not None:
            short += device.short_of(luts=area.luts, ram_blocks=area.ram_blocks)
        return short

    return short_of


def estimate(
    network: Network,
    plan: Plan,
    data: Dataset,
    *,
    clock_mhz: float,
    done: Callable[[int], None] | None = None,
) -> tuple[dict[str, Any], Cycles]:
    """Cycles of ``plan`` on the frames of ``data``.

    Returns
    -------
    A JSON object with units in its names, and the cycles of the first frames, with what the walkers did in each.
    """
    cycles = simulate(network, plan, data.images, record=True, done=done)
    first = data.images[: _SHOWN + 1]
    shown = simulate(network, plan, first, activity=int(cycles.answered[len(first) - 1]) + 1, record=True)
    streams = run_streams(network, data.images)
    demand = Demand.of(network, data.images)
    spent = energy(network, plan, streams)
    spikes = cycles.passed[f"events_{network.output.name}"]
    first_spike, right = _answers(streams[network.output.name], spikes, cycles.started, data.labels, network.outputs)
    cores = []
    for use, stage in zip(cycles.cores, stages(network), strict=True):
        layer = stage.layers[0]
        total = sum(getattr(use, name) for name in ACTIVITIES)
        row: dict[str, Any] = {"core": use.name, "layers": [layer.name for layer in stage.layers]}
        if isinstance(layer, Neurons):
            core = plan.core(layer.name)
            row |= {"channels": core.channels, "columns": core.columns, "rows": core.rows, "lanes": core.lanes}
            row["walker_cycles"] = round(walker_cycles(network, demand, core), 1)
            row |= {"group_fifo_depth": core.group_fifo, "event_fifo_depth": core.event_fifo}
        row |= {f"{name}_share": round(getattr(use, name) / total, 4) for name in ACTIVITIES}
        row |= {f"{name}_most": getattr(use, name) for name in ("group_fifo", "pool_fifo", "event_fifo")}
        row["events_in_per_frame"] = round(len(streams[stage.source].address) / len(data), 2)
        cores.append(row)
    with_walker = [row for row in cores if "walker_cycles" in row]
    slowest = max(with_walker, key=lambda row: row["walker_cycles"])
    return {
        "network": network.name,
        "network_hash": network.content_hash,
        "plan": plan.name,
        "lanes": plan.lanes,
        "dataset": data.name,
        "frames": len(data),
        "clock_mhz": clock_mhz,
        "cycles_per_frame": round(cycles.cycles_per_frame, 1),
        "frames_per_second": round(clock_mhz * 1e6 / cycles.cycles_per_frame, 1),
        "latency_cycles_mean": round(float(cycles.latency.mean()), 1),
        "first_spike_cycles_mean": _mean(first_spike),
        "right_answer_cycles_mean": _mean(right),
        "right_answers": int((right >= 0).sum()),
        "slowest_core": slowest["core"],
        "slowest_core_cycles": slowest["walker_cycles"],
        "slowest_core_share": round(slowest["walker_cycles"] / cycles.cycles_per_frame, 4),
        "cores": cores,
        "energy_nj_per_frame": {
            "total": round(sum(core.total_nj for core in spent), 2),
            **{
                name: round(sum(getattr(core, f"{name}_nj") for core in spent), 2)
                for name in ("additions", "state", "weights", "hops")
            },
            "not_included": list(NOT_INCLUDED),
            "cores": [
                {item: round(value, 3) if isinstance(value, float) else value for item, value in asdict(core).items()}
                for core in spent
            ],
        },
    }, shown


def memories_of(network: Network, plan: Plan) -> dict[str, int]:
    """What the memories of a folded machine take of an iCE40, exactly, as a JSON object."""
    folded = Folded.of(network, plan)
    return {
        "ram_blocks": folded.blocks,
        "single_port_state_words": folded.single_state_words,
        "single_port_weight_words": folded.single_weight_words,
    }


def area_of(network: Network, plan: Plan) -> dict[str, Any]:
    """What the machine takes of an ECP5, as a JSON object: memories exactly, LUTs and flip-flops estimated."""
    from hw.flow.area import estimate_area

    return asdict(estimate_area(network, plan))


def _considered(network: Network, choice: Choice) -> list[dict[str, Any]]:
    """The plans from which one was chosen, as JSON objects."""
    lanes = [core.lanes for core in choice.plan.cores]
    rows = []
    for cycles, plan in choice.considered:
        area = area_of(network, plan)
        rows.append(
            {
                "slowest_core_cycles": round(cycles, 1),
                "lanes": plan.lanes,
                "lanes_by_core": [core.lanes for core in plan.cores],
                **{name: area[name] for name in ("luts", "flip_flops", "ram_blocks")},
                "chosen": [core.lanes for core in plan.cores] == lanes,
            }
        )
    return rows


def _mean(cycles: npt.NDArray[np.int64]) -> float | None:
    found = cycles[cycles >= 0]
    return round(float(found.mean()), 1) if len(found) else None


def _answers(
    spikes: Stream, cycles: npt.NDArray[np.int64], started: npt.NDArray[np.int64], labels: npt.NDArray[Any], outputs: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of each frame, cycles from its first token to its first output spike, and to the spike from which on the answer so far
    stays right; -1 where there is none. ``cycles`` has one more a frame, for its end."""
    first, right = np.full(len(labels), -1), np.full(len(labels), -1)
    for frame, label in enumerate(labels):
        begin, end = spikes.starts[frame], spikes.starts[frame + 1]
        if begin == end:
            # Nothing fired: class 0 from the start.
            right[frame] = 0 if label == 0 else -1
            continue
        passed = cycles[begin + frame : end + frame] - started[frame]
        first[frame] = passed[0]
        counts = np.zeros((end - begin, outputs), np.int64)
        counts[np.arange(end - begin), spikes.address[begin:end]] = spikes.sign[begin:end]
        wrong = np.flatnonzero(answers(counts.cumsum(axis=0)) != label)
        if not len(wrong) or wrong[-1] < end - begin - 1:
            right[frame] = passed[wrong[-1] + 1 if len(wrong) else 0]
    return first, right


_COLORS = {"starved": "#e9edf1", "working": "#2463a8", "blocked": "#c8641b", "sweeping": "#8a93a0"}


def timeline(cycles: Cycles, output: str) -> Figure:
    """Who worked, starved, was blocked, and when, in the last frame of ``cycles``."""
    frame = cycles.frames - 1
    begin, end = int(cycles.started[frame]), int(cycles.compared[frame])
    with mpl.rc_context({**PLOTS, "axes.grid": False}):
        figure = Figure(figsize=(9.5, 0.5 * len(cycles.cores) + 1.6))
        axes = figure.subplots()
        for row, core in enumerate(cycles.cores):
            doing = cycles.activity[row, begin : end + 1]
            edges = np.flatnonzero(np.diff(doing, prepend=-1, append=-1))
            for code, name in enumerate(ACTIVITIES):
                runs = [(int(a), int(b - a)) for a, b in pairwise(edges) if doing[a] == code]
                axes.broken_barh(runs, (row - 0.35, 0.7), color=_COLORS[name], linewidth=0, label="" if row else name)
            passed = cycles.passed[f"events_{core.name}"]
            passed = passed[(passed >= begin) & (passed <= end)] - begin
            axes.plot(passed, np.full(len(passed), row + 0.42), "|", color="#1c2733", markersize=4, markeredgewidth=0.6)
        axes.set_yticks(range(len(cycles.cores)), [core.name for core in cycles.cores])
        axes.set_ylim(len(cycles.cores) - 0.3, -0.7)
        axes.set_xlim(0, end - begin)
        axes.set_xlabel(f"cycles since the first input event of frame {frame}; a stroke is an event that leaves the core")
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        figure.legend(loc="upper center", ncols=len(ACTIVITIES), fontsize=9, frameon=False)
        figure.tight_layout(rect=(0, 0, 1, 0.94))
    return figure


def _rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for core in found["cores"]:
        lanes = f"{core['channels']}x{core['columns']}x{core['rows']} = {core['lanes']}" if "lanes" in core else ""
        fifos = " ".join(
            f"{core[f'{name}_fifo_most']}/{core.get(f'{depth}_fifo_depth', '-')}"
            for name, depth in (("group", "group"), ("pool", "group"), ("event", "event"))
        )
        rows.append(
            (
                " + ".join(core["layers"]),
                lanes,
                f"{core['events_in_per_frame']:,.0f}",
                f"{core['walker_cycles']:,.0f}" if "walker_cycles" in core else "",
                *(f"{core[f'{name}_share']:.0%}" for name in ("working", "starved", "blocked", "sweeping")),
                fifos,
            )
        )
    return rows


_TITLES = (
    "core",
    "lanes",
    "events in",
    "walker cycles",
    "working",
    "starved",
    "blocked",
    "sweeping",
    "FIFOs: groups, pooled, events",
)


def _summary(found: dict[str, Any]) -> list[tuple[str, str]]:
    def cycles(key: str) -> str:
        return "never" if found[key] is None else f"{found[key]:,.1f} cycles, {found[key] / found['clock_mhz']:,.1f} us"

    return [
        ("frames", f"{found['frames']:,} of {found['dataset']}, back to back"),
        ("lanes", f"{found['lanes']}"),
        ("a frame", cycles("cycles_per_frame")),
        (f"at {found['clock_mhz']:g} MHz", f"{found['frames_per_second']:,.0f} frames a second"),
        ("first input event to the answer", cycles("latency_cycles_mean")),
        ("to the first output spike", cycles("first_spike_cycles_mean")),
        (f"until the answer stays right ({found['right_answers']:,} frames)", cycles("right_answer_cycles_mean")),
        *_taken(found),
        (
            "energy of a frame, modelled for 45 nm",
            f"{found['energy_nj_per_frame']['total']:,.0f} nJ; not included: {', '.join(NOT_INCLUDED)}",
        ),
        (
            "slowest core",
            f"{found['slowest_core']}: {found['slowest_core_cycles']:,.0f} cycles, {found['slowest_core_share']:.0%} of all",
        ),
    ]


_CONSIDERED = ("slowest core's cycles", "lanes", "by core", "LUTs", "flip-flops", "block RAMs", "")


def _taken(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What of a device it takes."""
    if "memories" in found:
        of = found["memories"]
        used = of["single_port_state_words"] + of["single_port_weight_words"]
        return [("memories, of an iCE40", f"{of['ram_blocks']} block RAMs; {used:,} of {SINGLE_WORDS:,} words of SPRAM (exact)")]
    area = found["area"]
    return [
        (
            "area, of an ECP5",
            f"{area['luts']:,} LUTs and {area['flip_flops']:,} flip-flops (estimated), {area['ram_blocks']:,} block RAMs (exact)",
        ),
        ("clock that was met by designs like it", "{:.0f} to {:.0f} MHz".format(*area["fmax_mhz"])),
    ]


def _considered_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            f"{plan['slowest_core_cycles']:,.0f}",
            f"{plan['lanes']:,}",
            " + ".join(map(str, plan["lanes_by_core"])),
            *(f"{plan[name]:,}" for name in ("luts", "flip_flops", "ram_blocks")),
            "chosen" if plan["chosen"] else "",
        )
        for plan in found["plans_considered"]
    ]


def _choice_parts(found: dict[str, Any]) -> list[str]:
    if "plans_considered" not in found:
        return []
    return ["<h2>Plans considered</h2>", table(_CONSIDERED, _considered_rows(found))]


def _page(found: dict[str, Any], shown: Cycles, output: str) -> str:
    return document(
        f"{found['network']}, plan {found['plan']}",
        [
            f"<h1>{found['network']}, plan {found['plan']}</h1>",
            table(("", ""), _summary(found)),
            "<h2>Cores</h2>",
            table(_TITLES, _rows(found)),
            "<p>Working: the walker takes a step of an event's fan-out. Starved: it has no event. Blocked: what is behind it has "
            "no room. Sweeping: old tags are cleared. Lanes: channels x columns x rows. Of each FIFO, the most it held, and its "
            "depth.</p>",
            *_choice_parts(found),
            "<h2>Energy</h2>",
            table(
                ("core", "additions", "state words", "weight words", "events in", "additions, nJ", "state, nJ", "weights, nJ",
                 "hops, nJ"),
                [
                    (
                        core["core"],
                        *(f"{core[name]:,.0f}" for name in ("additions", "state_words", "weight_words", "hops")),
                        *(f"{core[f'{name}_nj']:,.2f}" for name in ("additions", "state", "weights", "hops")),
                    )
                    for core in found["energy_nj_per_frame"]["cores"]
                ],
            ),
            "<p>Counted, each at an energy published for 45 nm; a measure for comparing plans and networks, not a measurement. "
            f"Not included: {', '.join(NOT_INCLUDED)}.</p>",
            "<h2>One frame</h2>",
            image(timeline(shown, output), "what each core does in each cycle of a frame"),
        ],
    )


@command(help="Cycles, frames a second and the use of every core, before any synthesis; and which plan to take.")
@click.argument("net", type=click.Path(path_type=Path))
@click.option(
    "--plan", "plan_name", metavar="PLAN", help="minimal, default, fast, folded, or a .json file; default if nothing is asked."
)
@click.option("--target-fps", type=click.FloatRange(0, min_open=True), help="Plan for this: the fewest lanes that reach it.")
@click.option("--max-lanes", type=click.IntRange(1), help="Plan for this: the fastest plan that has no more.")
@click.option("--max-lut", type=click.IntRange(1), help="Plan for this: the fastest plan that is estimated to take no more.")
@click.option("--board", metavar="BOARD", help="Whether it fits there; without --plan, the fastest plan that does.")
@click.option("--clock", "clock_mhz", type=click.FloatRange(0, min_open=True), help="In MHz; 60, or 24 for a folded machine.")
@click.option("--dataset", default="mnist", show_default=True, metavar="DATA", help="mnist, digits5k or an .npz file.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="First folder to look for the MNIST files in.")
@click.option("--frames", default=1000, show_default=True, type=click.IntRange(1), help="Frames to run, the first test frames.")
@click.option("--save-plan", type=click.Path(path_type=Path), help="Write the plan to this .json file, for --plan elsewhere.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for estimate.json and estimate.html; build/NAME by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
def main(
    net: Path,
    plan_name: str | None,
    target_fps: float | None,
    max_lanes: int | None,
    max_lut: int | None,
    board: str | None,
    clock_mhz: float | None,
    dataset: str,
    data_dir: Path | None,
    frames: int,
    save_plan: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """See the help text above."""
    console = Console(stderr=True)
    network = Network.load(net)
    wanted = any(option is not None for option in (target_fps, max_lanes, max_lut))
    if wanted and plan_name is not None:
        fail(Exit.BAD_INPUT, "--plan must not be given with --target-fps, --max-lanes or --max-lut")
    if board is not None and plan_name is None:
        plan_name = _own_plan(board)
        wanted |= plan_name is None
    own = load_plan(network, plan_name) if plan_name is not None else None
    folded = own is not None and own.folded
    short_of = limits(network, max_lanes=max_lanes, max_luts=max_lut, board=board, folded=folded)
    choice = None
    if save_plan is not None and save_plan.suffix != ".json":
        fail(Exit.BAD_INPUT, f"--save-plan must end in .json, not {str(save_plan)!r}")
    data = load(dataset, "test", data_dir)
    data = suited(network, data.first(frames))
    tell(data.notes)
    if wanted:
        # Planned on frames that are not those it is measured on.
        calibration = suited(network, load(dataset, "train", data_dir).first(_CALIBRATED * 5)).images
        with console.status("planning") as status:
            cycles = (clock_mhz or _CLOCK_MHZ) * 1e6 / target_fps if target_fps is not None else None
            choice = planned(network, calibration, cycles=cycles, short_of=short_of, tell=status.update)
            plan = choice.plan
    else:
        plan = load_plan(network, plan_name or "default")
    clock_mhz = clock_mhz or (_FOLDED_CLOCK_MHZ if plan.folded else _CLOCK_MHZ)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{network.name}, plan {plan.name}", total=len(data))
        found, shown = estimate(network, plan, data, clock_mhz=clock_mhz, done=lambda more: bar.advance(task, more))
    if plan.folded:
        found["memories"] = memories_of(network, plan)
    else:
        found["area"] = area_of(network, plan)
    if board is not None:
        found |= {"board": board, "short_of": short_of(plan)}
    if choice is not None:
        found["plans_considered"] = _considered(network, choice)
    folder = out or Path("build") / network.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = {"estimate.json": json.dumps(found, indent=2) + "\n", "estimate.html": _page(found, shown, network.output.name)}
        for name, text in files.items():
            part = folder / f"{name}.part"
            part.write_text(text)
            part.replace(folder / name)
        if save_plan is not None:
            plan.save(save_plan)
    except OSError as error:
        fail(Exit.BAD_INPUT, f"{error.filename}: cannot be written: {error.strerror}")
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print(found, folder)
    if short := found.get("short_of"):
        fail(Exit.DOES_NOT_FIT, f"does not fit {board}: short of {' and '.join(short)}")


def _own_plan(board: str) -> str | None:
    """The plan of a board that has only room for a folded machine; None for others, which are planned for."""
    from boards.definitions import BOARDS

    return FOLDED if board in BOARDS and BOARDS[board].plan == FOLDED else None


def _print(found: dict[str, Any], folder: Path) -> None:
    if "plans_considered" in found:
        plans = Table(title="plans considered")
        for title in _CONSIDERED:
            plans.add_column(title, justify="right")
        for row in _considered_rows(found):
            plans.add_row(*row)
        Console().print(plans)
    printed = Table(title=f"{found['network']}, plan {found['plan']}")
    for title in _TITLES[:-2]:
        printed.add_column(title, justify="left" if title == "core" else "right")
    for row in _rows(found):
        printed.add_row(*row[:-2])
    Console().print(printed)
    for name, text in _summary(found):
        print(f"{name}: {text}")
    print(f"timeline: {folder / 'estimate.html'}")


if __name__ == "__main__":
    main()
