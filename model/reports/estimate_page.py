"""Tables, timeline and page of an estimate."""

from collections.abc import Sequence
from itertools import pairwise

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from model.machine.cycles import ACTIVITIES, Cycles
from model.machine.energy import Energy
from model.machine.estimate import Considered, CorePlanned, Estimate, PlannedBlocks
from model.machine.folded_layout import SINGLE_WORDS
from model.machine.plan import DISTRIBUTED_EVENTS
from model.reports.html import PLOTS, Table, lay_out, page, picture

__all__ = ["blocks_table", "considered_table", "cores_table", "estimate_page", "nearest", "summary", "timeline"]

_COLORS = {"starved": "#e9edf1", "working": "#2463a8", "blocked": "#c8641b", "sweeping": "#8a93a0"}

_PARTS = {"walker": "walker", "groups": "selector of groups", "serializer": "serializer"}
"""The parts of `model.machine.planner.Bound`, for people."""

_FULL = 0.99
"""Share of the cycles per frame below which the pace of a full pipeline is said too."""

_NEAREST = 5
"""Plans on each side of the chosen one that are shown on a terminal."""


def timeline(cycles: Cycles) -> Figure:
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
        lay_out(figure, rect=(0, 0, 1, 0.94))
    return figure


def estimate_page(found: Estimate, shown: Cycles) -> str:
    """The page of an estimate, as HTML; ``shown`` are the cycles whose last frame is drawn."""
    return page(
        "estimate.html",
        title=f"{found.network}, plan {found.plan}",
        summary=Table(("", ""), summary(found), words=(0, 1)),
        cores=cores_table(found),
        blocks=blocks_table(found.blocks) if found.blocks else None,
        considered=considered_table(found.plans_considered) if found.plans_considered is not None else None,
        energy=_energy_table(found.energy_nj_per_frame.cores),
        not_included=", ".join(found.energy_nj_per_frame.not_included),
        timeline=picture(timeline(shown), "what each core does in each cycle of a frame"),
    )


def summary(found: Estimate) -> list[tuple[str, str]]:
    """What is found for the whole machine, each with what it is."""

    def cycles(mean: float | None) -> str:
        return "never" if mean is None else f"{mean:,.1f} cycles, {mean / found.clock_mhz:,.1f} us"

    spent = found.energy_nj_per_frame
    return [
        ("frames", f"{found.frames:,} of {found.dataset}, back to back"),
        ("lanes", f"{found.lanes}"),
        ("per frame", cycles(found.cycles_per_frame)),
        (f"at {found.clock_mhz:g} MHz", f"{found.frames_per_second:,.0f} frames per second"),
        *_steady(found),
        ("first input event to the answer", cycles(found.latency_cycles_mean)),
        ("to the first output spike", cycles(found.first_spike_cycles_mean)),
        (f"until the answer stays right ({found.right_answers:,} frames)", cycles(found.right_answer_cycles_mean)),
        *_taken(found),
        ("energy per frame, modelled for 45 nm", f"{spent.total:,.0f} nJ; not included: {', '.join(spent.not_included)}"),
        (
            "slowest core",
            f"{found.slowest_core}: {found.slowest_core_cycles:,.0f} cycles of its {_PARTS[found.slowest_part]}, "
            f"{found.slowest_core_share:.0%} of all",
        ),
        *_missing(found),
    ]


def _steady(found: Estimate) -> list[tuple[str, str]]:
    """The pace of a full pipeline, where filling it is much of what the frames take."""
    if found.steady_cycles_per_frame > _FULL * found.cycles_per_frame:
        return []
    text = f"{found.steady_cycles_per_frame:,.1f} cycles per frame, {found.steady_frames_per_second:,.0f} frames per second"
    return [("once the pipeline is full", text)]


def _missing(found: Estimate) -> list[tuple[str, str]]:
    """What the busiest core waits for."""
    if found.queue_blocks_missing is None:
        return []
    text = (
        f"the busiest core works {found.slowest_core_cycles:,.0f} of {found.cycles_per_frame:,.0f} cycles: queues for whole "
        f"frames need {found.queue_blocks_missing:,} blocks more"
    )
    return [("what is missing", text)]


def _taken(found: Estimate) -> list[tuple[str, str]]:
    """What of a device it takes."""
    rows = []
    if found.memories is not None:
        of = found.memories
        used = of.single_port_state_words + of.single_port_weight_words
        text = f"{of.ram_blocks} block RAMs; {used:,} of {SINGLE_WORDS:,} words of SPRAM (exact)"
        rows.append(("memories, of an iCE40", text))
    if found.area is not None:
        area = found.area
        text = f"{area.luts:,} LUTs and {area.flip_flops:,} flip-flops (estimated), {area.ram_blocks:,} block RAMs (at most)"
        rows += [
            ("area, of an ECP5", text),
            ("clock that was met by designs like it", "{:.0f} to {:.0f} MHz".format(*area.fmax_mhz)),
        ]
    return rows


def cores_table(found: Estimate) -> Table:
    """What each core does."""
    titles = ("core", "lanes", "queues: output, join", "events in", "walker cycles", "working", "starved", "blocked", "sweeping",
              "FIFOs: groups, pooled, events")  # fmt: skip
    rows = []
    for core in found.cores:
        plan = core.planned
        depths = (plan.group_fifo_depth, plan.pool_fifo_depth, plan.event_fifo_depth) if plan is not None else ("-", "-", "-")
        most = (core.group_fifo_most, core.pool_fifo_most, core.event_fifo_most)
        rows.append(
            (
                " + ".join(core.layers),
                f"{plan.channels}x{plan.columns}x{plan.rows} = {plan.lanes}" if plan is not None else "",
                _queues(plan),
                f"{core.events_in_per_frame:,.0f}",
                f"{plan.walker_cycles:,.0f}" if plan is not None else "",
                *(f"{share:.0%}" for share in (core.working_share, core.starved_share, core.blocked_share, core.sweeping_share)),
                " ".join(f"{held}/{depth}" for held, depth in zip(most, depths, strict=True)),
            )
        )
    return Table(titles, rows)


def _queues(plan: CorePlanned | None) -> str:
    """The queues of a core that are in block RAM: events at its output, and in front of each further input."""
    if plan is None:
        return ""
    output = f"{plan.event_fifo_depth:,}" if plan.event_fifo_depth > DISTRIBUTED_EVENTS else "-"
    return f"{output}, {plan.join_fifo_depth:,}" if plan.join_fifo_depth else output


def blocks_table(blocks: Sequence[PlannedBlocks]) -> Table:
    """What memory blocks hold, how many would be free with a bit less, and how many are, where LUTs hold some of it instead."""

    def text(count: int | None) -> str:
        return "" if count is None else f"{count:,}"

    titles: tuple[str, ...] = ("core", "weights", "states", "others", "freed by a bit less of weights", "of potentials")
    names: tuple[str, ...] = ("weights", "states", "others", "freed_by_weight_bit", "freed_by_potential_bit")
    if any(of.freed_by_luts for of in blocks):
        titles += ("freed by LUTs", "LUTs for it")
        names += ("freed_by_luts", "luts_instead")
    rows = [(of.core, *(text(getattr(of, name)) for name in names)) for of in blocks]
    totals = (sum(getattr(of, name) or 0 for of in blocks) for name in names)
    return Table(titles, [*rows, ("all", *map(text, totals))])


def nearest(plans: Sequence[Considered]) -> Sequence[Considered]:
    """Of the plans from which one was chosen, that one and the next ones on both sides."""
    at = next((number for number, plan in enumerate(plans) if plan.chosen), 0)
    return plans[max(0, at - _NEAREST) : at + _NEAREST + 1]


def considered_table(plans: Sequence[Considered]) -> Table:
    """The plans from which one was chosen."""
    titles = ("slowest core's cycles", "lanes", "by core", "LUTs", "flip-flops", "block RAMs", "")
    rows = [
        (
            f"{plan.slowest_core_cycles:,.0f}",
            f"{plan.lanes:,}",
            " + ".join(map(str, plan.lanes_by_core)),
            f"{plan.luts:,}",
            f"{plan.flip_flops:,}",
            f"{plan.ram_blocks:,}",
            "chosen" if plan.chosen else "",
        )
        for plan in plans
    ]
    return Table(titles, rows)


def _energy_table(cores: Sequence[Energy]) -> Table:
    titles = ("core", "additions", "state words", "weight words", "events in", "additions, nJ", "state, nJ", "weights, nJ",
              "hops, nJ")  # fmt: skip
    rows = [
        (
            core.core,
            *(f"{count:,.0f}" for count in (core.additions, core.state_words, core.weight_words, core.hops)),
            *(f"{spent:,.2f}" for spent in (core.additions_nj, core.state_nj, core.weights_nj, core.hops_nj)),
        )
        for core in cores
    ]
    return Table(titles, rows)
