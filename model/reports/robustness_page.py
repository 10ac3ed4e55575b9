"""Figures and page of what `model.robustness` measured."""

import html
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.reports.html import PLOTS, document, image, table

__all__ = ["FIGURES", "level_of", "robustness_page"]

Found = dict[str, Any]

_BLUE, _ORANGE, _GREEN, _PURPLE, _GREY, _RED = "#2463a8", "#c8641b", "#2a8550", "#7a4fa3", "#68727d", "#b3273d"
_COLORS = (_BLUE, _ORANGE, _GREEN, _PURPLE, _GREY, _RED)
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
    "links": "The same on one link within the network, behind the layer named: its spikes are those of the undisturbed network.",
    "weights": "Each of these bits of each weight is flipped with this probability, once, for all frames.",
    "weights by layer": "All bits, in the weights of this layer only.",
    "weights by bit": "This bit only, in the weights of all layers; bit 0 is the lowest.",
}


def level_of(table_name: str, level: float | None) -> str:
    """How much a line disturbs, for reading."""
    if level is None:
        return ""
    if table_name == "jitter":
        return f"{level:,} events"
    if table_name.startswith("weights"):
        return f"{level:g}"
    return f"{100 * level:g} %"


def robustness_page(found: Found) -> str:
    """The page of what `model.robustness.study` returns, as HTML."""
    about = (
        f"{found['frames']:,} frames of {found['dataset']}; network {found['network_hash'][:16]}; "
        f"{found['trials']} trials of all that is random, seed {found['seed']}"
    )
    plain = found["plain"]
    with mpl.rc_context(PLOTS):
        plots = {name: image(draw(found), text) for name, (draw, text) in FIGURES.items()}
    shown_behind = {"jitter": "order", "links": "events", "weights by bit": "weights"}
    parts = [
        f"<h1>{html.escape(found['network'])}: order and noise</h1><p class=about>{html.escape(about)}</p>",
        f"<p>Undisturbed: {plain['accuracy']:.2%} by spike count, {plain['accuracy_potential']:.2%} by membrane potential; the "
        f"quantized network, which knows no events, {found['accuracy_quantized']:.2%}.</p>",
        "<p><em>Accuracy</em> is by spike count, the mean of the trials; <em>potential</em> by membrane potential. A "
        "<em>changed</em> answer differs from the undisturbed network's, right or wrong. <em>Events</em> that arrive, "
        "<em>adds</em> (accumulations) and events that <em>saturated</em> something are means a frame, <em>a neuron</em> has so "
        "many spikes a frame; where nothing saturated, no column says so. <em>Quantized</em> is the quantized network under the "
        f"same disturbance, and <em>spiking</em> this one on the same frames: the first {found['detail']:,}, first trial.</p>",
    ]
    for name, rows in found["tables"].items():
        parts += [f"<h2>{_TITLES[name]}</h2><p>{_TEXTS[name]}</p>", _rows(name, rows)]
        if name in shown_behind:
            parts.append(plots[shown_behind[name]])
    parting = found["parting"]
    parts += [
        "<h2>Where the order makes counts part</h2><p>Spike counts against the quantized network's, "
        f"{parting['frames']:,} frames, mean magnitudes in spikes a neuron. <em>Hysteresis</em> and <em>backlog</em> are the "
        "layer's own: the potential fell, but not far enough for the spike back; spikes still owed, as an update fires one at "
        "most. <em>Inherited</em> came with the layer's input. <em>Gain</em> is the slope of the spiking counts over the "
        "quantized: a common gain changes no answer. <em>Answer</em> is the accuracy if all layers behind were quantized.</p>",
        plots["parting"],
        _parting(parting["orders"]),
    ]
    if parting["finer"]:
        parts += [
            "<h2>Finer thresholds</h2><p>The same function with all thresholds divided by 2, 4 and 8, same frames. Hysteresis is "
            "a threshold at most, and shrinks with it; a weight of several thresholds leaves spikes owed.</p>",
            plots["thresholds"],
            _parting({f"/ {n}, {order}": rows for n, orders in parting["finer"].items() for order, rows in orders.items()}),
        ]
    return document(f"{found['network']}: order and noise", parts)


def _rows(name: str, rows: Sequence[Found]) -> str:
    """A table of rows, without the columns that say nothing there."""
    columns: dict[str, Callable[[Found], str]] = {
        "disturbance": lambda row: _unbroken(row["name"], level_of(name, row["level"])),
        "accuracy": lambda row: f"{row['accuracy']:.2%}",
        "of the trials": lambda row: (
            f"{100 * row['accuracy_least']:.2f}\u2013{row['accuracy_greatest']:.2%}" if row["seeds"] else ""
        ),
        "potential": lambda row: f"{row['accuracy_potential']:.2%}",
        "changed": lambda row: f"{row['answers_changed']:.2%}",
        "events": lambda row: f"{row['events_per_frame']:,.1f}",
        "a neuron": lambda row: f"{row['spikes_per_neuron']:.3f}",
        "adds": lambda row: f"{row['accumulations_per_frame']:,}",
        "saturated": lambda row: f"{row['saturated_events_per_frame']:,.3g}",
        "bits": lambda row: f"{row['bits_flipped']:,.1f}",
    }
    if len({row["events_per_frame"] for row in rows}) == 1:
        del columns["events"]
    for title, key in (("saturated", "saturated_events_per_frame"), ("bits", "bits_flipped")):
        if not any(row[key] for row in rows):
            del columns[title]
    if "detail_accuracy" in rows[0]:
        columns["spiking"] = lambda row: f"{row['detail_accuracy']:.1%}"
        columns["quantized"] = lambda row: f"{row['detail_accuracy_quantized']:.1%}"
    return table(list(columns), [[cell(row) for cell in columns.values()] for row in rows])


def _unbroken(*words: str) -> str:
    """Words that stay on one line of a table."""
    return ", ".join(word for word in words if word).replace(" ", "\u00a0")


def _parting(orders: dict[str, list[Found]]) -> str:
    titles = ("order, layer", "magnitude", "hysteresis", "backlog", "inherited", "gain", "correlation")
    cells = [
        (
            _unbroken(order, row["layer"]),
            *(f"{row[key]:.5f}" for key in ("difference_mean_absolute", "hysteresis", "backlog", "inherited")),
            *("" if row[key] is None else f"{row[key]:.3f}" for key in ("gain", "correlation")),
            f"{row['spikes_per_frame']:,.0f}",
            f"{row['negative_spikes']:.1%}",
            "" if row["accuracy_behind"] is None else f"{row['accuracy_behind']:.2%}",
        )
        for order, rows in orders.items()
        for row in rows
    ]
    return table((*titles, "spikes", "negative", "answer"), cells)


def _order_figure(found: Found) -> Figure:
    figure = Figure(figsize=(9, 3.3))
    by_order, by_window = figure.subplots(1, 2, width_ratios=(3, 2))
    rows = found["tables"]["order"]
    for index, row in enumerate(rows):
        least, greatest = 100 * row["accuracy_least"], 100 * row["accuracy_greatest"]
        by_order.plot([least, greatest], [index, index], color=_BLUE, linewidth=5, alpha=0.35, solid_capstyle="round")
    by_order.plot(
        [100 * row["accuracy"] for row in rows], range(len(rows)), "o", color=_BLUE, label="by spike count"
    )
    by_order.plot(
        [100 * row["accuracy_potential"] for row in rows],
        range(len(rows)),
        "o",
        markerfacecolor="none",
        markersize=9,
        color=_ORANGE,
        label="by membrane potential",
    )
    by_order.set_yticks(range(len(rows)), [_ORDER_NAMES.get(row["name"], row["name"]) for row in rows])
    by_order.invert_yaxis()
    by_order.set_xlabel("accuracy, %")
    by_order.set_title("order of a frame's events", loc="left", fontsize=11)
    windows = found["tables"]["jitter"]
    _line(by_window, range(len(windows)), windows, _BLUE, "o", _accuracy)
    by_window.set_xticks(range(len(windows)), [f"{row['level']}" for row in windows])
    for name, color, below in (("brightest", _GREY, False), ("random", _RED, True)):
        row = next(row for row in rows if row["name"] == name)
        by_window.axhline(_accuracy(row["accuracy"], 0), color=color, linestyle=":", linewidth=1.2)
        by_window.annotate(
            _ORDER_NAMES[name],
            (0, _accuracy(row["accuracy"], 0)),
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
    figure.tight_layout()
    return figure


_ORDER_NAMES = {"brightest": "brightest first", "darkest": "darkest first", "columns": "column by column", "random": "random"}


def _events_figure(found: Found) -> Figure:
    figure = Figure(figsize=(9, 3.8))
    links = found["tables"].get("links", [])
    kinds = ("dropped", "duplicated") if links else ()
    panels = figure.subplots(1, 1 + len(kinds), sharey=True, squeeze=False, width_ratios=[2] + [1] * len(kinds))[0]
    _lines(panels[0], found["tables"]["events"], found["frames"])
    panels[0].set_title("input events", loc="left", fontsize=11)
    panels[0].set_xlabel("share of events, %")
    for axes, kind in zip(panels[1:], kinds, strict=True):
        start = f"{kind} behind "
        rows = [{**row, "name": row["name"].removeprefix(start)} for row in links if row["name"].startswith(start)]
        _lines(axes, rows, found["frames"])
        axes.set_title(f"{kind} behind", loc="left", fontsize=11)
        axes.set_xlabel("share of events, %")
    _wrong_axis(panels[0], found)
    figure.tight_layout()
    return figure


def _weights_figure(found: Found) -> Figure:
    figure = Figure(figsize=(9, 4))
    by_set, by_layer, by_bit = figure.subplots(1, 3, sharey=True, width_ratios=(2, 1.2, 1.5))
    tables = found["tables"]
    _lines(by_set, [row for row in tables["weights"] if row["level"]], found["frames"], percent=False)
    by_set.set_xlabel("probability that a bit is flipped")
    by_set.set_title("all layers, these bits", loc="left", fontsize=11)
    for axes, name in ((by_layer, "weights by layer"), (by_bit, "weights by bit")):
        rows = tables[name][:: -1 if axes is by_bit else 1]
        _line(axes, range(len(rows)), rows, _BLUE, "o", lambda value, _: _wrong(value, found["frames"]), joined=False)
        axes.set_xticks(range(len(rows)), [row["name"].removeprefix("bit ") for row in rows])
        axes.margins(x=0.12)
    by_layer.set_title(f"one layer, all bits, {tables['weights by layer'][0]['level']:g}", loc="left", fontsize=11)
    by_layer.tick_params(axis="x", rotation=45)
    by_bit.set_title(f"all layers, one bit, {tables['weights by bit'][0]['level']:g}", loc="left", fontsize=11)
    by_bit.set_xlabel("bit (0 the lowest)")
    _wrong_axis(by_set, found)
    figure.tight_layout()
    return figure


def _parting_figure(found: Found) -> Figure:
    figure = Figure(figsize=(9, 3.6))
    panels = figure.subplots(1, 3)
    for axes, key, scale, title in (
        (panels[0], "accuracy_behind", 100, "accuracy if all behind\nwere quantized, %"),
        (panels[1], "correlation", 1, "correlation of counts with\nthe quantized network's"),
        (panels[2], "gain", 1, "gain of counts over\nthe quantized network's"),
    ):
        for (order, rows), color, marker in zip(found["parting"]["orders"].items(), _COLORS, _MARKERS, strict=True):
            shown = [row for row in rows if row[key] is not None]
            axes.plot(
                [row["layer"] for row in shown],
                [scale * row[key] for row in shown],
                color=color,
                marker=marker,
                markersize=5,
                linewidth=2.4 if order in ("brightest", "raster") else 1,
                label=_ORDER_NAMES.get(order, order),
            )
        axes.set_title(title, loc="left", fontsize=10)
    panels[2].axhline(1, color=_GREY, linestyle=":", linewidth=1)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.tight_layout()
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=6, frameon=False, fontsize=9)
    return figure


def _thresholds_figure(found: Found) -> Figure:
    figure = Figure(figsize=(9, 3.4))
    by_answer, by_work, by_part = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
    finer = found["parting"]["finer"]
    levels = [1, *map(int, finer)]
    for order, color, marker in (("brightest", _BLUE, "o"), ("random", _RED, "P"), ("raster", _GREEN, "^")):
        rows = [found["parting"]["orders"][order], *(orders[order] for orders in finer.values())]
        style: dict[str, Any] = {"color": color, "marker": marker, "markersize": 5}
        by_answer.plot(range(len(levels)), [100 * row[-1]["accuracy_behind"] for row in rows], **style)
        work = [sum(layer["accumulations_per_frame"] for layer in row) / 1000 for row in rows]
        by_work.plot(range(len(levels)), work, **style, label=_ORDER_NAMES.get(order, order))
        for part, line in (("hysteresis", "-"), ("backlog", "--")):
            # In thresholds of the network as it is, that levels can be compared.
            values = [row[0][part] / level for row, level in zip(rows, levels, strict=True)]
            by_part.plot(range(len(levels)), values, **style, linestyle=line)
    for axes, title in (
        (by_answer, "accuracy, %"),
        (by_work, "thousand accumulations\na frame"),
        (by_part, f"own error of {found['parting']['orders']['raster'][0]['layer']},\nthresholds a neuron"),
    ):
        axes.set_xticks(range(len(levels)), [f"1/{level}" if level > 1 else "1" for level in levels])
        axes.set_xlabel("threshold, of the network's own")
        axes.set_title(title, loc="left", fontsize=10)
    by_part.plot([], [], color=_GREY, linestyle="-", label="hysteresis")
    by_part.plot([], [], color=_GREY, linestyle="--", label="backlog")
    figure.tight_layout()
    handles = [*by_work.get_legend_handles_labels()[0], *by_part.get_legend_handles_labels()[0]]
    labels = [*by_work.get_legend_handles_labels()[1], *by_part.get_legend_handles_labels()[1]]
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=5, frameon=False, fontsize=9)
    return figure


def _accuracy(value: float, _: int) -> float:
    return 100 * value


def _wrong(accuracy: float, frames: int) -> float:
    """Frames answered wrong, in percent; no less than half a frame, as a logarithm needs."""
    return max(100 * (1 - accuracy), 50 / frames)


def _wrong_axis(axes: Axes, found: Found) -> None:
    """A logarithmic axis of wrong answers, with the undisturbed network's as a line."""
    figure = axes.figure
    undisturbed = _wrong(found["plain"]["accuracy"], found["frames"])
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


def _lines(axes: Axes, rows: Sequence[Found], frames: int, *, percent: bool = True) -> None:
    """Wrong answers against the level, a line for each name; levels stand at equal distances."""
    levels = sorted({row["level"] for row in rows})
    names = list(dict.fromkeys(row["name"] for row in rows))
    for name, color, marker in zip(names, _COLORS, _MARKERS, strict=False):
        own = [row for row in rows if row["name"] == name]
        places = [levels.index(row["level"]) for row in own]
        _line(axes, places, own, color, marker, lambda value, _: _wrong(value, frames), label=name)
    axes.set_xticks(range(len(levels)), [f"{100 * level:g}" if percent else f"{level:g}" for level in levels])


def _line(
    axes: Axes,
    places: Sequence[int],
    rows: Sequence[Found],
    color: str,
    marker: str,
    value: Callable[[float, int], float],
    *,
    label: str | None = None,
    joined: bool = True,
) -> None:
    """Means as markers, and the range of trials as a bar behind them."""
    low, high = ([value(row[f"accuracy_{end}"], 0) for row in rows] for end in ("least", "greatest"))
    axes.vlines(places, low, high, color=color, linewidth=4, alpha=0.3)
    means = [value(row["accuracy"], 0) for row in rows]
    axes.plot(places, means, color=color, marker=marker, markersize=5, linestyle="-" if joined else "none", label=label)


FIGURES: dict[str, tuple[Callable[[Found], Figure], str]] = {
    "order": (_order_figure, "accuracy for each order of a frame's events, and for events late by chance"),
    "events": (_events_figure, "wrong answers against the share of events lost, doubled, added or turned"),
    "weights": (_weights_figure, "wrong answers against the probability of flipped weight bits, by layer and by bit"),
    "parting": (_parting_figure, "of each layer and order, how far spike counts are from the quantized network's"),
    "thresholds": (_thresholds_figure, "accuracy, work and own error with finer thresholds, in three orders"),
}
"""Of each figure what draws it and what it shows, in words."""
