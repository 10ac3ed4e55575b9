"""The page that a person reads: tables and plots of an evaluation, in one file that loads nothing from elsewhere."""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["PLOTS", "STYLE", "document", "evaluation_page", "image", "table"]

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2733; background: #fff; }
body { max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p.about { color: #55616d; margin-top: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #dfe4ea; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
th { font-weight: 600; color: #55616d; }
img { max-width: 100%; height: auto; }
"""
"""Of every page."""

_BLUE, _ORANGE, _GREEN = "#2463a8", "#c8641b", "#2a8550"

PLOTS: Any = {
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e7ec",
    "axes.axisbelow": True,
    "svg.hashsalt": "tally",
}
"""Of every plot, for `matplotlib.rc_context`."""


def evaluation_page(found: dict[str, Any]) -> str:
    """The page of what `model.evaluate.evaluate` returns, as HTML."""
    about = f"{found['frames']:,} frames of {found['dataset']}; network {found['network_hash'][:16]}"
    accuracies = [
        ("float network, grey input", found.get("accuracy_ann")),
        ("float network, 1-bit input", found.get("accuracy_ann_1bit")),
        ("quantized network, no events", found["accuracy_qann"]),
        ("spiking network, by spike count", found["accuracy_snn"]),
        ("spiking network, by membrane potential", found["accuracy_snn_potential"]),
    ]
    totals = [
        ("input events a frame", f"{found['input_events_per_frame']:,}"),
        ("spikes a neuron a frame", f"{found['spikes_per_neuron']:,}"),
        ("accumulations a frame", f"{found['accumulations_per_frame']:,}"),
        ("multiply-accumulates of the float network", f"{found['macs_true']:,} (by the paper's count {found['macs_paper']:,})"),
        ("input events of a layer that saturated something, all frames", f"{found['saturated_events']:,}"),
    ]
    layers = [
        (
            layer["layer"],
            "x".join(map(str, layer["shape"])),
            *(f"{layer[key]:,.1f}" for key in ("events_per_frame", "spikes_per_frame")),
            *(f"{layer[key]:,}" for key in ("spikes_per_neuron", "accumulations_per_frame", "macs_true", "saturated_events")),
        )
        for layer in found["layers"]
    ]
    agreement = [
        (
            row["layer"],
            _share(row["correlation"]),
            f"{row['counts_equal']:.2%}",
            f"{row['count_difference_mean']:+.4f}",
            f"{row['count_difference_mean_absolute']:.4f}",
            _neurons(row["worst_neurons"]),
        )
        for row in found["agreement"]
    ]
    float_agreement = [
        (
            row["layer"],
            _share(row["float_correlation"]),
            f"{row['float_difference_mean']:+.4f}",
            f"{row['float_difference_mean_absolute']:.4f}",
            _neurons(row["float_worst_neurons"]),
        )
        for row in found["agreement"]
        if "float_correlation" in row
    ]
    course = found["course"]
    with mpl.rc_context(PLOTS):
        plots = [_layers_plot(found), _course_plot(course), _confusion_plot(found["confusion"])]
    float_part = []
    if float_agreement:
        float_part = [
            "<h2>Where spikes and the float network part</h2><p>Spike counts against float activations on the same 1-bit "
            "input, in thresholds, the threshold being what fits the layer best: this includes the rounding to whole "
            "thresholds, the weight bits and all of the above.</p>",
            table(("layer", "correlation", "mean difference", "mean magnitude", "worst neurons (y, x, c)"), float_agreement),
        ]
    parts = [
        f"<h1>{html.escape(found['network'])}</h1><p class=about>{html.escape(about)}</p>",
        "<h2>Accuracy, from stage to stage</h2>",
        table(("network", "accuracy"), [(name, f"{value:.2%}") for name, value in accuracies if value is not None]),
        "<h2>Work</h2>",
        table(("", ""), totals),
        table(("layer", "shape", "events in", "spikes", "spikes a neuron", "accumulations", "MACs", "saturated"), layers),
        plots[0],
        f"<h2>The answer as it grows</h2><p>From {course['frames']:,} frames. Pixels fire brightest first; each spike counts at "
        "the time of the pixel that caused it. Where the curve is flat, the rest of the frame changes nothing: stop there.</p>",
        plots[1],
        f"<h2>Where spikes and quantization part</h2><p>Spike counts against the quantized network's, from {course['frames']:,} "
        "frames: what differs is lost to the order of events, as a neuron fires once an update at most.</p>",
        table(("layer", "correlation", "equal", "mean difference", "mean magnitude", "worst neurons (y, x, c)"), agreement),
        *float_part,
        "<h2>Confusion</h2><p>Frames by class and answer; the diagonal is left white.</p>",
        plots[2],
    ]
    return document(found["network"], parts)


def document(title: str, parts: Sequence[str]) -> str:
    """A page of HTML ``parts`` that loads nothing."""
    head = (
        "<meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    )
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _neurons(worst: Sequence[dict[str, Any]]) -> str:
    return ", ".join("({}, {}, {})".format(*found["neuron"]) for found in worst[:3])


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table, as HTML; ``titles`` that are all empty make no head."""
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles) if any(titles) else ""
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=scroll><table>{f'<tr>{head}</tr>' if head else ''}{body}</table></div>"


def image(figure: Figure, text: str) -> str:
    """A figure as HTML: an SVG inside the page, with ``text`` for those who cannot see it."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    data = base64.b64encode(file.getvalue()).decode()
    return f'<p><img alt="{html.escape(text)}" src="data:image/svg+xml;base64,{data}"></p>'


def _layers_plot(found: dict[str, Any]) -> str:
    layers = [layer for layer in found["layers"] if layer["neurons"]]
    names = [layer["layer"] for layer in layers]
    figure = Figure(figsize=(9, 2.9))
    for axes, key, title in zip(
        figure.subplots(1, 2),
        ("spikes_per_frame", "accumulations_per_frame"),
        ("spikes a frame", "accumulations a frame"),
        strict=True,
    ):
        bars = axes.barh(names, [layer[key] for layer in layers], color=_BLUE, height=0.6)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, color="#55616d")
        axes.set_title(title, loc="left", fontsize=11)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.18)
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
        axes.xaxis.set_major_formatter("{x:,.0f}")
    figure.tight_layout()
    return image(figure, "spikes and accumulations of each layer")


def _course_plot(course: dict[str, Any]) -> str:
    figure = Figure(figsize=(9, 3.1))
    by_time, by_spikes, by_work = figure.subplots(1, 3, sharey=True)
    events = course["by_events"]
    work = [value / 1000 for value in events["accumulations_per_frame"]]
    for axes, values, accuracy, title, color in (
        (by_time, course["time"], course["accuracy"], "time (0: white pixels, 1: black)", _BLUE),
        (by_spikes, events["spikes_per_frame"], events["accuracy"], "spikes so far", _ORANGE),
        (by_work, work, events["accuracy"], "thousand accumulations so far", _GREEN),
    ):
        axes.plot(values, [100 * share for share in accuracy], color=color, marker=".", markersize=4)
        axes.set_xlabel(title, fontsize=10)
        _mark(axes, values, accuracy)
    by_time.set_ylabel("accuracy, %")
    figure.tight_layout()
    return image(figure, "accuracy of the answer so far against time, spikes and accumulations")


def _mark(axes: Axes, values: Sequence[float], accuracy: Sequence[float]) -> None:
    """Mark where the answer is first within a tenth of a point of the whole frame's."""
    first = next(n for n, share in enumerate(accuracy) if share >= accuracy[-1] - 0.001)
    axes.axvline(values[first], color="#8a949e", linewidth=1, linestyle=":")
    axes.annotate(
        f"{values[first]:,.2f}" if values[-1] <= 1 else f"{values[first]:,.0f}",
        (values[first], 4),
        xytext=(-5, 0),
        textcoords="offset points",
        ha="right",
        color="#55616d",
    )
    axes.set_ylim(0, 102)


def _confusion_plot(confusion: Sequence[Sequence[int]]) -> str:
    size = len(confusion)
    figure = Figure(figsize=(5.2, 4.6))
    axes = figure.subplots()
    wrong = [[0 if row == column else count for column, count in enumerate(counts)] for row, counts in enumerate(confusion)]
    axes.imshow(wrong, cmap="Oranges", vmin=0, vmax=max(1, 1.4 * max(map(max, wrong))))
    for row, counts in enumerate(confusion):
        for column, count in enumerate(counts):
            if count:
                axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(size))
    axes.set_yticks(range(size))
    axes.set_xlabel("answer")
    axes.set_ylabel("class")
    axes.grid(visible=False)
    return image(figure, "frames by class and answer")
