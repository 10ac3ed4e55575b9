"""Table, figures and page of what `model.paper` measured."""

import html
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.reports.html import PLOTS, document, image, table

__all__ = ["COLUMNS", "FIGURES", "paper_page", "table_rows"]

Found = dict[str, Any]

UNKNOWN = "not known to us"
_BLUE, _ORANGE, _GREEN, _PURPLE, _GREY, _RED = "#2463a8", "#c8641b", "#2a8550", "#7a4fa3", "#68727d", "#b3273d"

COLUMNS = (
    "method",
    "network",
    "setting",
    "accuracy",
    "lost",
    "by potential",
    "spikes a neuron",
    "accumulations",
    "paper: accuracy",
    "paper: spikes a neuron",
    "paper: accumulations",
)
"""Of Table I."""

_METHODS = {
    "sigma-delta": "this method",
    "rate": "rate code (Rueckauer et al. 2017)",
    "first spike": "time to first spike (Rueckauer and Liu 2018)",
}


def table_rows(found: Found) -> list[tuple[str, ...]]:
    """Table I for reading; the paper's own figures beside the row that is scaled to its spikes a neuron."""
    rows: list[tuple[str, ...]] = []
    for row in found["rows"]:
        potential = row["accuracy_potential"]
        published = (UNKNOWN,) * 3
        if row["setting"].endswith("(to the paper's spikes)"):
            paper = found["published"]["sigma-delta"]
            published = (
                f"{paper['accuracy']:.2%}",
                f"{paper['spikes_per_neuron']}",
                f"less than {paper['most_accumulations_per_frame']:,}",
            )
        rows.append(
            (
                _METHODS[row["method"]],
                row["network"],
                row["setting"],
                f"{row['accuracy']:.2%}",
                f"{100 * row['accuracy_lost'] + 0.0:.2f}",
                "" if potential is None else f"{potential:.2%}",
                f"{row['spikes_per_neuron']:.3f}",
                f"{row['accumulations_per_frame']:,}",
                *published,
            )
        )
    return rows


def paper_page(found: Found) -> str:
    """The page of what `model.paper.study` returns, as HTML."""
    ann = found["accuracy_ann"]
    about = (
        f"{found['frames']:,} frames of {found['dataset']}; scales from {found['calibration']['frames']:,} training frames; "
        f"every spike looked at in {found['detail_frames']:,} frames"
    )
    with mpl.rc_context(PLOTS):
        plots = {name: image(draw(found), text) for name, (draw, text, _) in FIGURES.items()}
    parts = [
        f"<h1>Sigma-delta, rate code, time to first spike</h1><p class=about>{html.escape(about)}</p>",
        "<h2>Table I</h2><p>Our figures on our own networks, beside the paper's (Yousefzadeh et al. 2019) where these are known "
        "to us. They stand beside the row that is scaled to the paper's spikes a neuron, because what they were measured at, of "
        "the paper's thresholds, is not known to us. "
        "<em>Lost</em>: percentage points against the float network on the same input. Float accuracies: convolutional "
        f"{ann['convolutional']['grey']:.2%} on grey and {ann['convolutional']['1bit']:.2%} on 1-bit input, two layers "
        f"{ann['two-layer']['grey']:.2%} on grey.</p>",
        table(COLUMNS, table_rows(found)),
        "<p>An accumulation is a neuron that a spike reaches, windows clipped at the border; input included. What that count "
        "leaves out:</p>",
        table(
            ("method", "network", "setting", "operations that are not in the count, or of another kind"),
            [(_METHODS[row["method"]], row["network"], row["setting"], row["beside"]) for row in found["rows"] if row["beside"]],
        ),
        "<p>Sigma-delta neurons and those of the rate code add and compare. A neuron that waits for its first spike has a "
        "potential that grows with time between events: its updates are no longer additions alone, unless every neuron adds its "
        "slope in every time step, which is not counted here.</p>",
        "<h2>What is known to us of published figures</h2>",
        table(("method", "figures", "source"), [_published(name, of) for name, of in found["published"].items()]),
    ]
    for name, (_, _, caption) in FIGURES.items():
        parts += [f"<h2>{name.replace('figure', 'Figure ')}</h2><p>{html.escape(caption)}</p>", plots[name]]
    parts += ["<h2>Where it differs, and why</h2>", *_why(found)]
    return document("Sigma-delta, rate code, time to first spike", parts)


def _published(name: str, of: Found) -> tuple[str, ...]:
    known = []
    if of["accuracy"] is not None:
        known.append(f"accuracy {of['accuracy']:.2%}")
    if of["spikes_per_neuron"] is not None:
        known.append(f"{of['spikes_per_neuron']} spikes a neuron a frame")
    if of["most_accumulations_per_frame"] is not None:
        known.append(f"less than {of['most_accumulations_per_frame']:,} accumulations a frame")
    if of["remark"]:
        known.append(of["remark"])
    return _METHODS[name], "; ".join(known), of["source"]


def _why(found: Found) -> list[str]:
    large = ", ".join(f"{layer} {value:.2f}" for layer, value in found["large_activations"].items())
    parts = [
        f"<p>A large activation (the 99th percentile of the positive ones) of our network: {large}. A neuron fires when its "
        "activation reaches a threshold: where a large activation is below the threshold, the layer is silent. With the "
        "first layer's weights and all biases multiplied by a factor, the network gives the same answers with activations as "
        f"many times as large. {found['factors']['accumulations']:g} is the largest whole factor at which threshold 1.0 stays "
        f"within the paper's {found['published']['sigma-delta']['most_accumulations_per_frame']:,} accumulations on the training "
        "frames, "
        f"{found['factors']['spikes']:g} the largest multiple of 0.1 at which it stays within its "
        f"{found['published']['sigma-delta']['spikes_per_neuron']} spikes a neuron.</p>"
    ]
    for label, why in found["why"].items():
        steps = [(s["cause"], s["layer"], f"{s['accuracy']:.2%}", f"{s['lost']:+.2%}" if s["lost"] else "") for s in why["steps"]]
        layers = [
            (
                row["layer"],
                f"{row['neurons']:,}",
                f"{row['threshold']:.3f}",
                f"{row['large_activation_thresholds']:.2f}",
                f"{row['positive_activations']:.1%}",
                f"{row['spikes_per_frame']:,.0f}",
                f"{row['counts_per_frame']:,.0f}",
                f"{row['quantized_counts_per_frame']:,.0f}",
                f"{row['negative_spikes']:.1%}",
                f"{row['spikes_per_neuron']:.3f}",
            )
            for row in why["layers"]
        ]
        titles = (
            "layer",
            "neurons",
            "threshold",
            "large activation, thresholds",
            "activations above 0",
            "spikes",
            "of which count in the end",
            "counts without events",
            "negative",
            "spikes a neuron",
        )
        parts += [
            f"<h2>{html.escape(label)}</h2><p>{html.escape(why['verdict'])}</p>",
            table(titles, layers),
            table(("step", "layer", "accuracy", "lost"), steps),
        ]
    parts += [
        "<h2>Time to first spike</h2><p>Of the convolutional network, pixels as currents, whole frames. A neuron whose float "
        "activation is 0 fires where excitation arrives before the inhibition that would have kept it silent. "
        "<em>Correlation</em> is between the inverse of the time and the activation, of neurons that are active and fire.</p>",
        table(
            ("layer", "share fired, of those active", "share fired, of those silent", "correlation"),
            [
                (row["layer"], *("" if row[key] is None else f"{row[key]:.3f}" for key in _MISSED))
                for row in found["why_first_spike"]
            ],
        ),
    ]
    return parts


def _published_line(axes: Axes, found: Found) -> None:
    accuracy = 100 * found["published"]["sigma-delta"]["accuracy"]
    axes.axhline(accuracy, color=_RED, linewidth=1, linestyle="--", label=f"the paper's {accuracy:.2f} %")


def _thresholds(found: Found) -> Figure:
    figure = Figure(figsize=(11, 3.4))
    whole, close, spikes = figure.subplots(1, 3)
    sweep = found["thresholds"]
    x = [entry["threshold"] for entry in sweep]
    for axes in (whole, close):
        for key, label, color in (
            ("accuracy", "spiking, by count", _BLUE),
            ("accuracy_quantized", "quantized, no events", _ORANGE),
        ):
            axes.plot(x, [100 * entry[key] for entry in sweep], color=color, marker=".", label=label)
        axes.axhline(100 * found["accuracy_ann"]["convolutional"]["1bit"], color=_GREY, linewidth=1, label="float, 1-bit input")
        _published_line(axes, found)
        axes.set_ylabel("accuracy, %")
    close.set_ylim(97, 100)
    whole.legend(frameon=False, fontsize=9, loc="lower left")
    spikes.plot(x, [entry["spikes_per_neuron"] for entry in sweep], color=_BLUE, marker=".", label="ours")
    published = found["published"]["sigma-delta"]["spikes_per_neuron"]
    spikes.axhline(published, color=_RED, linewidth=1, linestyle="--", label=f"the paper's {published}")
    spikes.set_ylabel("spikes a neuron a frame")
    spikes.legend(frameon=False, fontsize=9)
    for axes in (whole, close, spikes):
        axes.set_xscale("log")
        axes.set_xlabel("threshold of all layers")
        axes.set_xticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
        axes.minorticks_off()
    figure.tight_layout()
    return figure


def _courses(found: Found) -> Figure:
    figure = Figure(figsize=(9, 3.6))
    axes = figure.subplots()
    styles = ((_GREY, "-"), (_GREY, ":"), (_BLUE, "-"), (_ORANGE, "-"), (_GREEN, "-"))
    for course, (color, style) in zip(found["courses"], styles, strict=True):
        axes.plot(course["time"], [100 * share for share in course["accuracy"]], style, color=color, label=course["label"])
    _published_line(axes, found)
    axes.set_ylim(0, 102)
    axes.set_xlabel("time (0: white pixels have fired, 1: black ones would)")
    axes.set_ylabel("accuracy of the answer so far, %")
    axes.legend(frameon=False, fontsize=9, loc="center right")
    figure.tight_layout()
    return figure


def _operations(found: Found) -> Figure:
    figure = Figure(figsize=(9, 4.2))
    axes = figure.subplots()

    def curves(operations: Sequence[float], figures: Found | Sequence[Found], color: str, label: str) -> None:
        """By count, and dotted by potential."""
        for key, style, marker, name in (("accuracy", "-", ".", label), ("accuracy_potential", ":", "", None)):
            shares = figures[key] if isinstance(figures, dict) else [entry[key] for entry in figures]
            x, y = [value / 1000 for value in operations], [100 * share for share in shares]
            axes.plot(x, y, style, color=color, marker=marker, label=name)

    sweep = found["thresholds"]
    curves([entry["accumulations_per_frame"] for entry in sweep], sweep, _BLUE, "sigma-delta, thresholds 0.1 to 2")
    for key, label, color in (("grey", "grey", _ORANGE), ("1bit", "1-bit", _PURPLE)):
        rates = found["rates"][key]
        name = f"rate code, 1 to {rates['steps'][-1]} steps, {label} input"
        curves(rates["accumulations_per_frame"], rates, color, name)
    axes.plot([], [], ":", color=_GREY, label="dotted: by potential")
    bundled = found["bundled"]
    points = [(bundled, _BLUE, "s", "sigma-delta, bundled conversion")]
    for network, marker in (("convolutional", "^"), ("two-layer", "v")):
        for key, color in (("currents", _GREEN), ("spikes", _GREY)):
            points.append((found["first_spikes"][network][key], color, marker, f"first spike, {network}, pixels are {key}"))
    for figures, color, marker, label in points:
        x, y = figures["accumulations_per_frame"] / 1000, 100 * figures["accuracy"]
        axes.plot([x], [y], marker, color=color, markersize=8, label=label)
    paper = found["published"]["sigma-delta"]
    most, accuracy = paper["most_accumulations_per_frame"] / 1000, 100 * paper["accuracy"]
    label = f"the paper's {accuracy:.2f} %, less than {most:.0f} thousand"
    axes.plot([most], [accuracy], "<", color=_RED, markersize=8, label=label)
    axes.set_xscale("log")
    axes.set_ylim(95, 100.1)
    axes.set_xticks([50, 100, 200, 500, 1000, 2000], ["50", "100", "200", "500", "1,000", "2,000"])
    axes.minorticks_off()
    axes.set_xlabel("thousand accumulations a frame")
    axes.set_ylabel("accuracy, %")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure


_MISSED = ("fired_of_active", "fired_of_silent", "correlation")

_OURS = "The caption is ours, as what the paper's plot shows is not known to us beyond its subject"

FIGURES: dict[str, tuple[Callable[[Found], Figure], str, str]] = {
    "figure2": (
        _thresholds,
        "accuracy and spikes against the threshold",
        "Accuracy and spikes against the threshold, one for all layers, weights as they are. A network scaled by a factor gives, "
        f"at a threshold, what this one gives at the threshold divided by the factor. {_OURS}.",
    ),
    "figure3": (
        _courses,
        "accuracy of the answer so far against time",
        "Accuracy of the answer so far against time: pixels fire brightest first, and each spike counts at the time of the pixel "
        f"that caused it. {_OURS}.",
    ),
    "figure4": (
        _operations,
        "accuracy against accumulations of all methods",
        "Accuracy against accumulations, of all methods, from 95 % on. Input included; additions of constant currents are not "
        f"(see the table). {_OURS}.",
    ),
}
"""Of each figure: what draws it, what it shows in words, and its caption."""
