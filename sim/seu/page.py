"""Table and figure of what flips of single bits do."""

from collections.abc import Callable, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.reports.html import BLUE, GREEN, GREY, ORANGE, PLOTS, PURPLE, RED
from model.reports.markdown import markdown
from sim.seu.study import ANSWER, COUNTS, EFFECTS, HANG, LENGTHS, NONE, SPIKES, TIME, ClassRow, Upsets

__all__ = ["figure", "lines", "table_name", "titles", "upsets_markdown"]

_NAMES = {
    NONE: "nothing",
    TIME: "time only",
    SPIKES: "spikes only",
    COUNTS: "counts, same answer",
    ANSWER: "another answer",
    HANG: "hang",
}
"""What a table calls `sim.seu.study.EFFECTS`."""

_LENGTHS = dict(zip(LENGTHS, ("no frame", "1 frame", "2 or more frames", "to the end of the run"), strict=True))

_TITLES = ("bit of", "bits", "upsets", *_NAMES.values(), *list(_LENGTHS.values())[1:], "state as before")

_COLORS = {NONE: "#d9dee4", TIME: GREY, SPIKES: BLUE, COUNTS: GREEN, ANSWER: ORANGE, HANG: RED}
_LENGTH_COLORS = dict(zip(LENGTHS, ("#d9dee4", BLUE, PURPLE, RED), strict=True))


def table_name(found: Upsets) -> str:
    """What the table of a network and plan is called in a page."""
    return f"upsets {found.network} {found.plan}"


def titles(found: Upsets) -> tuple[str, ...]:
    """The titles of the table's columns."""
    return (*_TITLES, *(["reported"] if found.weight_passes else []))


def lines(found: Upsets) -> list[list[str]]:
    """The table's lines, as texts."""
    return [
        [
            row.of,
            *(
                f"{count:,}"
                for count in (
                    row.bits,
                    row.upsets,
                    *(row.effects[name] for name in EFFECTS),
                    *(row.lasts_frames[name] for name in LENGTHS[1:]),
                    row.healed,
                    *([row.reported] if found.weight_passes else []),
                )
            ),
        ]
        for row in found.rows
    ]


def upsets_markdown(found: Upsets) -> str:
    """The table for a page."""
    return markdown(titles(found), lines(found))


def figure(found: Upsets) -> Figure:
    """Of each class of bits which share of the upsets does what, and for how long."""
    with mpl.rc_context(PLOTS):
        drawn = Figure(figsize=(11, 0.42 * len(found.rows) + 2.1))
        effects, lengths = drawn.subplots(1, 2, sharey=True)
        _bars(effects, found.rows, EFFECTS, _NAMES, _COLORS, lambda row: row.effects)
        _bars(lengths, found.rows, LENGTHS, _LENGTHS, _LENGTH_COLORS, lambda row: row.lasts_frames)
        lengths.tick_params(axis="y", length=0)
        effects.set_xlabel("share of the upsets, by what they change, %")
        lengths.set_xlabel("share of the upsets, by how long spikes or counts differ, %")
        drawn.suptitle(f"{found.network}, plan {found.plan}: {found.each} upsets of each class of bits, {found.frames} frames")
        drawn.tight_layout()
    return drawn


def _bars(
    axes: Axes,
    rows: Sequence[ClassRow],
    keys: Sequence[str],
    names: dict[str, str],
    colors: dict[str, str],
    of: Callable[[ClassRow], dict[str, int]],
) -> None:
    """A bar a class, from left to right the shares."""
    left = [0.0] * len(rows)
    places = list(range(len(rows)))
    for key in keys:
        shares = [100 * of(row)[key] / row.upsets for row in rows]
        axes.barh(places, shares, left=left, color=colors[key], edgecolor="white", linewidth=0.6, label=names[key])
        left = [before + share for before, share in zip(left, shares, strict=True)]
    axes.set_yticks(places, [row.of for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=9, frameon=False)
