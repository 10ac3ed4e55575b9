"""Figures and page of a study of robustness."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.reports.html import BLUE, COLORS, GREEN, GREY, ORANGE, PLOTS, RED, Table, lay_out, page, picture, short_name, svg
from model.studies.robustness_results import PartingRow, Robustness, Row

__all__ = ["FIGURES", "figure_files", "label_of", "level_of", "robustness_page"]

_MARKERS = ("o", "s", "^", "D", "v", "P")

_TITLES = {
    "order": "Order of the input events",
    "jitter": "Input events late by chance",
    "events": "Input events lost, doubled, added, turned",
    "links": "Events lost or doubled between layers",
    "weights": "Weight bits flipped",
    "weights by layer": "Weight bits flipped in one layer",
    "weights by bit": "One bit of every weight flipped",
}

_TEXTS = {
    "order": "The encoder's order is brightest first; all other lines feed the same events in another order.",
    "jitter": "Each event may change places with events less than this many places away.",
    "events": "Each event is lost (or doubled, or of the other sign) with this probability; spurious events are positive, from "
    "any address alike, at any place, and as many as that probability gives.",
    "links": "The same on one link within the network, after the layer named: its spikes are those of the undisturbed network.",
    "weights": "Each of these bits of each weight is flipped with this probability, once, for all frames.",
    "weights by layer": "All bits, in the weights of this layer only.",
    "weights by bit": "This bit only, in the weights of all layers; bit 0 is the lowest.",
}


def label_of(row: Row) -> str:
    """What a line disturbs, for reading."""
    return row.name if row.link is None else f"{row.change} after {row.link}"


def level_of(table_name: str, level: float | None) -> str:
    """How much a line disturbs, for reading."""
    if level is None:
        return ""
    if table_name == "jitter":
        return f"{level:,} events"
    if table_name.startswith("weights"):
        return f"{level:g}"
    return f"{100 * level:g} %"


def robustness_page(found: Robustness) -> str:
    """The page of a study, as HTML."""
    with mpl.rc_context(PLOTS):
        plots = {name: picture(draw(found), text) for name, (draw, text) in FIGURES.items()}
    shown_after = {"jitter": "order", "links": "events", "weights by bit": "weights"}
    sections = [
        (_TITLES[name], _TEXTS[name], _rows(name, rows), plots.get(shown_after.get(name, "")))
        for name, rows in found.tables.items()
    ]
    finer = {f"/ {n}, {order}": rows for n, orders in found.parting.finer.items() for order, rows in orders.items()}
    return page(
        "robustness.html",
        title=f"{found.network}: order and noise",
        found=found,
        sections=sections,
        parting=_parting(found.parting.orders),
        parting_plot=plots["parting"],
        finer=_parting(finer) if finer else None,
        finer_plot=plots["thresholds"],
    )


def figure_files(found: Robustness) -> dict[str, bytes]:
    """The figures as SVG files by name, the same bytes for the same study."""
    with mpl.rc_context(PLOTS):
        return {f"robustness-{name}.svg": svg(draw(found), facecolor="white") for name, (draw, _) in FIGURES.items()}


def _rows(name: str, rows: Sequence[Row]) -> Table:
    """A table of rows, without the columns that say nothing there."""
    columns: dict[str, Callable[[Row], str]] = {
        "disturbance": lambda row: _unbroken(label_of(row), level_of(name, row.level)),
        "accuracy": lambda row: f"{row.figures.accuracy:.2%}",
        "of the trials": lambda row: (
            f"{100 * row.figures.accuracy_least:.2f}\u2013{row.figures.accuracy_greatest:.2%}" if row.seeds else ""
        ),
        "potential": lambda row: f"{row.figures.accuracy_potential:.2%}",
        "changed": lambda row: f"{row.figures.answers_changed:.2%}",
        "events": lambda row: f"{row.figures.events_per_frame:,.1f}",
        "per neuron": lambda row: f"{row.figures.spikes_per_neuron:.3f}",
        "adds": lambda row: f"{row.figures.accumulations_per_frame:,}",
        "saturated": lambda row: f"{row.figures.saturated_events_per_frame:,.3g}",
        "bits": lambda row: f"{row.figures.bits_flipped:,.1f}",
    }
    if len({row.figures.events_per_frame for row in rows}) == 1:
        del columns["events"]
    if not any(row.figures.saturated_events_per_frame for row in rows):
        del columns["saturated"]
    if not any(row.figures.bits_flipped for row in rows):
        del columns["bits"]
    if rows[0].detail_accuracy is not None:
        columns["spiking"] = lambda row: f"{row.detail_accuracy:.1%}"
        columns["quantized"] = lambda row: f"{row.detail_accuracy_quantized:.1%}"
    return Table(tuple(columns), [[cell(row) for cell in columns.values()] for row in rows])


def _unbroken(*words: str) -> str:
    """Words that stay on one line of a table."""
    return ", ".join(word for word in words if word).replace(" ", "\u00a0")


def _parting(orders: dict[str, tuple[PartingRow, ...]]) -> Table:
    titles = ("order, layer", "magnitude", "hysteresis", "backlog", "inherited", "gain", "correlation", "spikes", "negative",
              "answer")  # fmt: skip
    cells = [
        (
            _unbroken(order, short_name(row.layer)),
            *(f"{each:.5f}" for each in (row.difference_mean_absolute, row.hysteresis, row.backlog, row.inherited)),
            *("" if each is None else f"{each:.3f}" for each in (row.gain, row.correlation)),
            f"{row.spikes_per_frame:,.0f}",
            f"{row.negative_spikes:.1%}",
            "" if row.accuracy_after is None else f"{row.accuracy_after:.2%}",
        )
        for order, rows in orders.items()
        for row in rows
    ]
    return Table(titles, cells)


def _order_figure(found: Robustness) -> Figure:
    figure = Figure(figsize=(9, 3.3))
    by_order, by_window = figure.subplots(1, 2, width_ratios=(3, 2))
    rows = found.tables["order"]
    for index, row in enumerate(rows):
        least, greatest = 100 * row.figures.accuracy_least, 100 * row.figures.accuracy_greatest
        by_order.plot([least, greatest], [index, index], color=BLUE, linewidth=5, alpha=0.35, solid_capstyle="round")
    by_order.plot(
        [100 * row.figures.accuracy for row in rows], range(len(rows)), "o", color=BLUE, label="by spike count"
    )
    by_order.plot(
        [100 * row.figures.accuracy_potential for row in rows],
        range(len(rows)),
        "o",
        markerfacecolor="none",
        markersize=9,
        color=ORANGE,
        label="by membrane potential",
    )
    by_order.set_yticks(range(len(rows)), [_ORDER_NAMES.get(row.name, row.name) for row in rows])
    by_order.invert_yaxis()
    by_order.set_xlabel("accuracy, %")
    by_order.set_title("order of a frame's events", loc="left", fontsize=11)
    windows = found.tables["jitter"]
    _line(by_window, range(len(windows)), windows, BLUE, "o", _accuracy)
    by_window.set_xticks(range(len(windows)), [f"{row.level}" for row in windows])
    for name, color, below in (("brightest", GREY, False), ("random", RED, True)):
        row = next(row for row in rows if row.name == name)
        by_window.axhline(_accuracy(row.figures.accuracy, 0), color=color, linestyle=":", linewidth=1.2)
        by_window.annotate(
            _ORDER_NAMES[name],
            (0, _accuracy(row.figures.accuracy, 0)),
            xytext=(0, -4 if below else 4),
            textcoords="offset points",
            va="top" if below else "bottom",
            color=color,
            fontsize=9,
        )
    by_window.margins(y=0.2)
    by_window.set_xlabel("window, events")
    by_window.set_title("late by chance: accuracy, %", loc="left", fontsize=11)
    figure.legend(*by_order.get_legend_handles_labels(), loc="lower center", ncols=2, frameon=False, bbox_to_anchor=(0.3, -0.06))
    lay_out(figure)
    return figure


_ORDER_NAMES = {"brightest": "brightest first", "darkest": "darkest first", "columns": "column by column", "random": "random"}


def _events_figure(found: Robustness) -> Figure:
    figure = Figure(figsize=(9, 3.8))
    links = found.tables.get("links", ())
    kinds = ("dropped", "duplicated") if links else ()
    panels = figure.subplots(1, 1 + len(kinds), sharey=True, squeeze=False, width_ratios=[2] + [1] * len(kinds))[0]
    _lines(panels[0], found.tables["events"], found.frames)
    panels[0].set_title("input events", loc="left", fontsize=11)
    panels[0].set_xlabel("share of events, %")
    for axes, kind in zip(panels[1:], kinds, strict=True):
        rows = [replace(row, name=short_name(row.link)) for row in links if row.change == kind and row.link is not None]
        _lines(axes, rows, found.frames)
        axes.set_title(f"{kind} after", loc="left", fontsize=11)
        axes.set_xlabel("share of events, %")
    _wrong_axis(panels[0], found)
    lay_out(figure)
    return figure


def _weights_figure(found: Robustness) -> Figure:
    figure = Figure(figsize=(9, 4))
    by_set, by_layer, by_bit = figure.subplots(1, 3, sharey=True, width_ratios=(2, 1.2, 1.5))
    tables = found.tables
    _lines(by_set, [row for row in tables["weights"] if row.level], found.frames, percent=False)
    by_set.set_xlabel("probability that a bit is flipped")
    by_set.set_title("all layers, these bits", loc="left", fontsize=11)
    for axes, name in ((by_layer, "weights by layer"), (by_bit, "weights by bit")):
        rows = tables[name][:: -1 if axes is by_bit else 1]
        _line(axes, range(len(rows)), rows, BLUE, "o", lambda value, _: _wrong(value, found.frames), joined=False)
        axes.set_xticks(range(len(rows)), [row.name if row.bit is None else f"{row.bit}" for row in rows])
        axes.margins(x=0.12)
    by_layer.set_title(f"one layer, all bits, {tables['weights by layer'][0].level:g}", loc="left", fontsize=11)
    by_layer.tick_params(axis="x", rotation=45)
    by_bit.set_title(f"all layers, one bit, {tables['weights by bit'][0].level:g}", loc="left", fontsize=11)
    by_bit.set_xlabel("bit (0 the lowest)")
    _wrong_axis(by_set, found)
    lay_out(figure)
    return figure


def _parting_figure(found: Robustness) -> Figure:
    figure = Figure(figsize=(9, 3.6))
    panels = figure.subplots(1, 3)
    values: tuple[tuple[Axes, Callable[[PartingRow], float | None], int, str], ...] = (
        (panels[0], lambda row: row.accuracy_after, 100, "accuracy if all later layers\nwere quantized, %"),
        (panels[1], lambda row: row.correlation, 1, "correlation of counts with\nthe quantized network's"),
        (panels[2], lambda row: row.gain, 1, "gain of counts over\nthe quantized network's"),
    )
    for axes, value, scale, title in values:
        for (order, rows), color, marker in zip(found.parting.orders.items(), COLORS, _MARKERS, strict=True):
            shown = [(row.layer, scale * of) for row in rows if (of := value(row)) is not None]
            axes.plot(
                [layer for layer, _ in shown],
                [of for _, of in shown],
                color=color,
                marker=marker,
                markersize=5,
                linewidth=2.4 if order in ("brightest", "raster") else 1,
                label=_ORDER_NAMES.get(order, order),
            )
        axes.set_title(title, loc="left", fontsize=10)
    panels[2].axhline(1, color=GREY, linestyle=":", linewidth=1)
    handles, labels = panels[0].get_legend_handles_labels()
    lay_out(figure)
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=6, frameon=False, fontsize=9)
    return figure


def _thresholds_figure(found: Robustness) -> Figure:
    figure = Figure(figsize=(9, 3.4))
    by_answer, by_work, by_part = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
    finer = found.parting.finer
    levels = [1, *map(int, finer)]
    for order, color, marker in (("brightest", BLUE, "o"), ("random", RED, "P"), ("raster", GREEN, "^")):
        rows = [found.parting.orders[order], *(orders[order] for orders in finer.values())]
        style: dict[str, Any] = {"color": color, "marker": marker, "markersize": 5}
        by_answer.plot(range(len(levels)), [100 * (row[-1].accuracy_after or 0) for row in rows], **style)
        work = [sum(layer.accumulations_per_frame for layer in row) / 1000 for row in rows]
        by_work.plot(range(len(levels)), work, **style, label=_ORDER_NAMES.get(order, order))
        # In thresholds of the network as it is, so that levels can be compared.
        hysteresis = [row[0].hysteresis / level for row, level in zip(rows, levels, strict=True)]
        backlog = [row[0].backlog / level for row, level in zip(rows, levels, strict=True)]
        by_part.plot(range(len(levels)), hysteresis, **style, linestyle="-")
        by_part.plot(range(len(levels)), backlog, **style, linestyle="--")
    for axes, title in (
        (by_answer, "accuracy, %"),
        (by_work, "thousand accumulations\na frame"),
        (by_part, f"own error of {short_name(found.parting.orders['raster'][0].layer)},\nthresholds a neuron"),
    ):
        axes.set_xticks(range(len(levels)), [f"1/{level}" if level > 1 else "1" for level in levels])
        axes.set_xlabel("threshold, of the network's own")
        axes.set_title(title, loc="left", fontsize=10)
    by_part.plot([], [], color=GREY, linestyle="-", label="hysteresis")
    by_part.plot([], [], color=GREY, linestyle="--", label="backlog")
    lay_out(figure)
    handles = [*by_work.get_legend_handles_labels()[0], *by_part.get_legend_handles_labels()[0]]
    labels = [*by_work.get_legend_handles_labels()[1], *by_part.get_legend_handles_labels()[1]]
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=5, frameon=False, fontsize=9)
    return figure


def _accuracy(value: float, _: int) -> float:
    return 100 * value


def _wrong(accuracy: float, frames: int) -> float:
    """Frames answered wrong, in percent; no less than half a frame, as a logarithm needs."""
    return max(100 * (1 - accuracy), 50 / frames)


def _wrong_axis(axes: Axes, found: Robustness) -> None:
    """A logarithmic axis of wrong answers, with the undisturbed network's as a line."""
    figure = axes.figure
    undisturbed = _wrong(found.plain.accuracy, found.frames)
    for each in figure.axes:
        each.axhline(undisturbed, color="#1c2733", linestyle=":", linewidth=1, label="undisturbed")
        if len(each.get_legend_handles_labels()[0]) > 1:
            each.legend(loc="upper left", frameon=False, fontsize=9)
    axes.set_yscale("log")
    ticks = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in ticks if low <= tick <= high])
    axes.set_ylim(low, min(high, 110))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.set_ylabel("frames answered wrong, %")


def _lines(axes: Axes, rows: Sequence[Row], frames: int, *, percent: bool = True) -> None:
    """Wrong answers against the level, a line for each name; levels stand at equal distances."""
    levels = sorted({row.level or 0 for row in rows})
    names = list(dict.fromkeys(row.name for row in rows))
    for name, color, marker in zip(names, COLORS, _MARKERS, strict=False):
        own = [row for row in rows if row.name == name]
        places = [levels.index(row.level or 0) for row in own]
        _line(axes, places, own, color, marker, lambda value, _: _wrong(value, frames), label=name)
    axes.set_xticks(range(len(levels)), [f"{100 * level:g}" if percent else f"{level:g}" for level in levels])


def _line(
    axes: Axes,
    places: Sequence[int],
    rows: Sequence[Row],
    color: str,
    marker: str,
    value: Callable[[float, int], float],
    *,
    label: str | None = None,
    joined: bool = True,
) -> None:
    """Means as markers, and the range of trials as a bar behind them."""
    low = [value(row.figures.accuracy_least, 0) for row in rows]
    high = [value(row.figures.accuracy_greatest, 0) for row in rows]
    axes.vlines(places, low, high, color=color, linewidth=4, alpha=0.3)
    means = [value(row.figures.accuracy, 0) for row in rows]
    axes.plot(places, means, color=color, marker=marker, markersize=5, linestyle="-" if joined else "none", label=label)


FIGURES: dict[str, tuple[Callable[[Robustness], Figure], str]] = {
    "order": (_order_figure, "accuracy for each order of a frame's events, and for events late by chance"),
    "events": (_events_figure, "wrong answers against the share of events lost, doubled, added or turned"),
    "weights": (_weights_figure, "wrong answers against the probability of flipped weight bits, by layer and by bit"),
    "parting": (_parting_figure, "of each layer and order, how far spike counts are from the quantized network's"),
    "thresholds": (_thresholds_figure, "accuracy, work and own error with finer thresholds, in three orders"),
}
"""Of each figure what draws it and what it shows, in words."""
