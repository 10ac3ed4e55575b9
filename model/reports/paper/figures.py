"""The paper's Figures 2 to 4 of our networks, and accuracy against the threshold."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.reports.html import BLUE, GREEN, GREY, ORANGE, PURPLE, RED
from model.studies.paper.courses import Course
from model.studies.paper.published import CLAIMED_ACCUMULATIONS, MACS_AS_PRINTED, SPIKES, TABLE_ONE
from model.studies.paper.results import PaperStudy

__all__ = ["FIGURES"]

_END = 0.8
"""When a frame's last pixel may fire, in time units."""

_PAPER = {row.key: row for row in TABLE_ONE}
"""The rows of its table."""

_ACCURACY, _FLOAT_ACCURACY = (float(each.removesuffix(" %")) for each in (_PAPER["thr 1.0"].snn, _PAPER["thr 1.0"].ann))
"""The paper's, in percent: at threshold 1.0, and of the float network."""

_COURSES = {"threshold 1.0": (BLUE, "-"), "threshold 2.0": (PURPLE, "-"), "fine-tuned": (GREEN, "--")}
"""How the answer so far of each network is drawn."""

_FINE_TUNED = "mnist-sparse"
"""The network of that course."""


def _look(found: PaperStudy) -> Figure:
    look = found.look
    figure = Figure(figsize=(10, 6.4))
    grid = figure.add_gridspec(2, 2, width_ratios=(3.2, 1), height_ratios=(1, 1.25))
    potentials, raster, digit = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[0, 1])
    lasts = [[bias, *values][-1] for bias, values in zip(look.biases, look.potentials, strict=True)]
    heights = _apart(lasts)
    for output, (values, last) in enumerate(zip(look.potentials, lasts, strict=True)):
        color, width = (RED, 2.0) if output == look.answer else (GREY, 0.9)
        potentials.step([0, *look.time, _END], [look.biases[output], *values, last], where="post", color=color, linewidth=width)
        potentials.text(_END + 0.005, heights[output], str(output), color=color, fontsize=9, va="center")
    if look.first_right is not None:
        label = f"right for good from {look.first_right:.3f} on"
        potentials.axvline(look.first_right, color=GREEN, linewidth=1, linestyle="--", label=label)
        potentials.legend(frameon=False, fontsize=9, loc="upper left")
    potentials.set_ylabel("membrane potential,\nthresholds")
    potentials.set_title("(a) outputs", loc="left", fontsize=11)
    for band, layer in enumerate(reversed(look.layers)):
        sign, time = np.array(layer.sign), np.array(layer.time)
        height = band + 0.92 - 0.84 * np.array(layer.neuron) / max(1, layer.neurons)
        # In the order in which they fired, so that neither sign hides the other.
        raster.scatter(time, height, s=3, c=np.where(sign > 0, BLUE, ORANGE), linewidths=0, rasterized=True)
        raster.axhline(band, color=GREY, linewidth=0.6)
    raster.set_yticks([band + 0.5 for band in range(len(look.layers))], [
        f"{layer.layer}\n{len(layer.time):,} spikes" for layer in reversed(look.layers)
    ])  # fmt: skip
    raster.set_ylim(0, len(look.layers))
    raster.set_xlabel("time")
    raster.set_title("(b) every spike, negative ones orange", loc="left", fontsize=11)
    for axes in (potentials, raster):
        axes.set_xlim(-0.02, _END + 0.03)
    digit.imshow(np.array(look.image), cmap="gray_r", interpolation="nearest")
    digit.set_title(f"(c) first test digit, a {look.label}", loc="left", fontsize=11)
    digit.set_xticks([])
    digit.set_yticks([])
    digit.grid(False)
    figure.set_dpi(200)
    figure.tight_layout()
    return figure


def _apart(heights: Sequence[float]) -> list[float]:
    """Heights of labels, moved up where they would lie on one another."""
    gap = 0.055 * (max(heights) - min(heights))
    found, lowest = list(heights), -np.inf
    for at in np.argsort(heights):
        found[at] = lowest = max(heights[at], lowest + gap)
    return found


def _name(found: PaperStudy, course: Course) -> str:
    """The network and what it was run with, for a legend."""
    return _FINE_TUNED if course.label == "fine-tuned" else f"{found.network}, {course.label}"


def _percent(shares: Sequence[float]) -> list[float]:
    return [100 * share for share in shares]


def _mark_deferred(axes: Axes, found: PaperStudy, at: Callable[[str], float]) -> None:
    """What fires when the frame ends has one answer: a point."""
    for (label, figures), marker in zip(found.deferred.items(), "sDv^", strict=False):
        axes.plot([at(label)], [100 * figures.accuracy], marker, color=ORANGE, markersize=6, label=_deferred_name(label))


def _deferred_name(label: str) -> str:
    """For a legend."""
    network, setting = label.split(", ")
    return "mnist-deferred, deferred firing" if "mnist-deferred" in setting else f"{network}, deferred firing, {setting}"


def _courses(found: PaperStudy) -> Figure:
    figure = Figure(figsize=(11, 7))
    grid = figure.subplots(2, 2)

    def draw(axes: Axes, horizontal: Callable[[Course], Sequence[float]], at: Callable[[str], float]) -> None:
        for course in found.courses:
            color, style = _COURSES[course.label]
            axes.plot(horizontal(course), _percent(course.accuracy), style, color=color, label=_name(found, course))
        _mark_deferred(axes, found, at)

    rates = (("grey", f"{found.network}, rate code, grey", "-"), ("1bit", f"{found.network}, rate code, 1-bit", ":"))
    most_spikes = max(spikes for rate in found.rates.values() for spikes in rate.spikes_per_neuron)
    for row, limits in enumerate(((0, 101), (95, 100))):
        against_time, against_spikes = grid[row]
        draw(against_time, lambda course: course.time, lambda label: _END)
        steps = against_time.twiny()
        draw(against_spikes, lambda course: course.spikes_per_neuron, lambda label: found.deferred[label].spikes_per_neuron)
        for key, label, style in rates:
            rate = found.rates[key]
            steps.plot(rate.steps, _percent(rate.accuracy), style, color=GREY, label=label)
            against_spikes.plot(rate.spikes_per_neuron, _percent(rate.accuracy), style, color=GREY, label=label)
        steps.set_xlim(0, 25.5)
        steps.grid(False)
        steps.spines["top"].set_visible(True)
        steps.set_xlabel("time steps of the rate code" if row == 0 else "")
        against_time.set_xlim(0, _END + 0.02)
        against_spikes.set_xlim(0, 1.04 * most_spikes)
        for keys, marker, label in ((("thr 1.0", "thr 2.0"), "*", "the paper"), (("[9] 25", "[9] 15"), "x", "its rate code")):
            printed = [_PAPER[key] for key in keys]
            x, y = [float(each.spikes) for each in printed], [float(each.snn.removesuffix(" %")) for each in printed]
            against_spikes.plot(x, y, marker, color=RED, markersize=9, label=label)
        for axes in (against_time, against_spikes):
            axes.set_ylim(*limits)
            axes.set_ylabel("accuracy so far, %")
        against_time.set_title("(a)" if row == 0 else "(a), from 95 % on", loc="left", fontsize=11)
        against_spikes.set_title("(b)" if row == 0 else "(b), from 95 % on", loc="left", fontsize=11)
        against_time.set_xlabel("time" if row == 1 else "")
        against_spikes.set_xlabel("spikes a neuron so far" if row == 1 else "")
    grid[0, 1].legend(frameon=False, fontsize=9, loc="lower right")
    figure.tight_layout()
    return figure


def _operations(found: PaperStudy) -> Figure:
    figure = Figure(figsize=(10, 4.6))
    axes = figure.subplots()
    for course in found.courses:
        color, style = _COURSES[course.label]
        x = [value / 1000 for value in course.accumulations_per_frame]
        axes.plot(x, _percent(course.accuracy), style, color=color, label=_name(found, course))
    for key, style in (("grey", "-"), ("1bit", ":")):
        rate = found.rates[key]
        label = f"{found.network}, rate code, {key.replace('1bit', '1-bit')}, 1 to {rate.steps[-1]} steps"
        x = [value / 1000 for value in rate.accumulations_per_frame]
        axes.plot(x, _percent(rate.accuracy), style, color=GREY, label=label)
    sweep = sorted(found.thresholds, key=lambda point: point.figures.accumulations_per_frame)
    axes.plot(
        [point.figures.accumulations_per_frame / 1000 for point in sweep],
        _percent([point.figures.accuracy for point in sweep]),
        "o",
        color=BLUE,
        markersize=4,
        label=f"{found.network}, whole frames, thresholds {sweep[-1].threshold:g} to {sweep[0].threshold:g}",
    )
    _mark_deferred(axes, found, lambda label: found.deferred[label].accumulations_per_frame / 1000)
    for name, color in ((found.network, RED), ("mnist-paper", ORANGE)):
        grey = 100 * found.accuracy_ann[name]["grey"]
        axes.axhline(grey, color=color, linewidth=1, linestyle="--", label=f"{name}, float network, {grey:.2f} %")
    axes.plot(
        [CLAIMED_ACCUMULATIONS / 1000], [_FLOAT_ACCURACY], "<", color=RED, markersize=8,
        label=f"the paper: {_FLOAT_ACCURACY:.2f} % with fewer than {CLAIMED_ACCUMULATIONS:,}",
    )  # fmt: skip
    for operations, style, what in (
        (2 * MACS_AS_PRINTED, "-", "as the paper counts"),
        (2 * found.counting.connections, ":", "all input channels counted"),
    ):
        label = f"float networks, {operations:,} operations,\n{what}"
        axes.axvline(operations / 1000, color=RED, linewidth=1, linestyle=style, label=label)
    axes.set_xscale("log")
    axes.set_xlim(20, 3000)
    axes.set_ylim(90, 100.1)
    axes.set_xticks([20, 50, 100, 200, 500, 1000, 2000], ["20", "50", "100", "200", "500", "1,000", "2,000"])
    axes.minorticks_off()
    axes.set_xlabel("thousand accumulations a frame")
    axes.set_ylabel("accuracy so far, %")
    axes.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure


def _thresholds(found: PaperStudy) -> Figure:
    figure = Figure(figsize=(11, 3.4))
    whole, close, spikes = figure.subplots(1, 3)
    sweep = found.bundled_thresholds
    x = [point.threshold for point in sweep]
    lines = (
        ([point.figures.accuracy for point in sweep], "spiking, by count", BLUE),
        ([point.figures.accuracy_quantized for point in sweep], "quantized, no events", ORANGE),
    )
    for axes in (whole, close):
        for shares, label, color in lines:
            axes.plot(x, _percent(shares), color=color, marker=".", label=label)
        float_accuracy = 100 * found.accuracy_ann["mnist-paper"]["1bit"]
        axes.axhline(float_accuracy, color=GREY, linewidth=1, label="float, 1-bit input")
        axes.axhline(_ACCURACY, color=RED, linewidth=1, linestyle="--", label=f"the paper's {_ACCURACY:.2f} %")
        axes.set_ylabel("accuracy, %")
    close.set_ylim(97, 100)
    whole.legend(frameon=False, fontsize=9, loc="lower left")
    spikes.plot(x, [point.figures.spikes_per_neuron for point in sweep], color=BLUE, marker=".", label="ours")
    spikes.axhline(SPIKES, color=RED, linewidth=1, linestyle="--", label=f"the paper's {SPIKES}")
    spikes.set_ylabel("spikes a neuron a frame")
    spikes.legend(frameon=False, fontsize=9)
    for axes in (whole, close, spikes):
        axes.set_xscale("log")
        axes.set_xlabel("threshold of all layers")
        axes.set_xticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
        axes.minorticks_off()
    figure.tight_layout()
    return figure


FIGURES: dict[str, tuple[str, Callable[[PaperStudy], Figure], str, str]] = {
    "figure2": (
        "Figure 2",
        _look,
        "membrane potentials, all spikes, and the digit",
        "Membrane potentials of the ten outputs, every spike of the input and of all layers, and the first test digit; threshold "
        "1.0. Within a layer neurons stand in the order of their addresses.",
    ),
    "figure3": (
        "Figure 3",
        _courses,
        "accuracy of the answer so far against time and against spikes",
        "Accuracy of the answer so far against time (a) and against spikes a neuron so far (b). Pixels fire brightest first; "
        "each spike counts at the time of the pixel that caused it. The rate code has time steps: its axis is the upper one. "
        "What fires when the frame ends has one answer. The paper's points are of its Table I, which counts pixels too.",
    ),
    "figure4": (
        "Figure 4",
        _operations,
        "accuracy against accumulations of all methods",
        "Accuracy of the answer so far against accumulations so far, input included; additions of the rate code's constant "
        "currents are not. Vertical lines: the float network, each multiply-accumulate as two operations.",
    ),
    "threshold": (
        "Accuracy against the threshold",
        _thresholds,
        "accuracy and spikes against the threshold",
        "Accuracy and spikes of the bundled network mnist-paper against the threshold, one for all layers, weights as they are, "
        "8 bits. A network scaled by a factor gives, at a threshold, what this one gives at the threshold divided by the factor.",
    ),
}
"""Of each figure: its heading, what draws it, what it shows in words, and its caption."""
