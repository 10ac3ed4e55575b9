"""Table, figures and page of the study of the paper."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.reports.html import BLUE, GREEN, GREY, ORANGE, PLOTS, PURPLE, RED, Picture, Table, page, picture, svg
from model.studies.paper_results import FirstSpikes, PaperStudy, Published, SigmaDelta, Why

__all__ = ["FIGURES", "UNKNOWN", "figure_files", "paper_page", "table_one"]

UNKNOWN = "not known to us"

_METHODS = {
    "sigma-delta": "this method",
    "rate": "rate code (Rueckauer et al. 2017)",
    "first spike": "time to first spike (Rueckauer and Liu 2018)",
}


@dataclass(frozen=True)
class _Section:
    """A part of a page."""

    heading: str
    text: str
    tables: tuple[Table, ...] = ()
    picture: Picture | None = None


def paper_page(found: PaperStudy) -> str:
    """The page of a study, as HTML."""
    with mpl.rc_context(PLOTS):
        figures = [
            _Section(name.replace("figure", "Figure "), caption, picture=picture(draw(found), text))
            for name, (draw, text, caption) in FIGURES.items()
        ]
    return page(
        "paper.html",
        title="Sigma-delta, rate code, time to first spike",
        found=found,
        table_one=table_one(found),
        beside=_beside_table(found),
        published=Table(
            ("method", "figures", "source"),
            [_published(name, figures) for name, figures in found.published.items()],
            words=(0, 1, 2),
        ),
        figures=figures,
        reasons=[_Section(label, why.verdict, (_layers_table(why), _steps_table(why))) for label, why in found.why.items()],
        missed=_missed_table(found),
    )


def figure_files(found: PaperStudy) -> dict[str, bytes]:
    """The figures as SVG files by name, the same bytes for the same study."""
    with mpl.rc_context(PLOTS):
        return {f"paper-{name}.svg": svg(draw(found), facecolor="white") for name, (draw, _, _) in FIGURES.items()}


def table_one(found: PaperStudy) -> Table:
    """Table I; the paper's own figures beside the row that is scaled to its spikes per neuron."""
    titles = ("method", "network", "setting", "accuracy", "lost", "by potential", "spikes per neuron", "accumulations",
              "paper: accuracy", "paper: spikes per neuron", "paper: accumulations")  # fmt: skip
    paper = found.published["sigma-delta"]
    known = (f"{paper.accuracy:.2%}", f"{paper.spikes_per_neuron}", f"less than {paper.most_accumulations_per_frame:,}")
    rows = [
        (
            _METHODS[row.method],
            row.network,
            row.setting,
            f"{row.accuracy:.2%}",
            f"{100 * row.accuracy_lost + 0.0:.2f}",
            "" if row.accuracy_potential is None else f"{row.accuracy_potential:.2%}",
            f"{row.spikes_per_neuron:.3f}",
            f"{row.accumulations_per_frame:,}",
            *(known if row.scaled_to == "spikes" else (UNKNOWN,) * 3),
        )
        for row in found.rows
    ]
    return Table(titles, rows, words=(0, 1, 2))


def _beside_table(found: PaperStudy) -> Table:
    titles = ("method", "network", "setting", "operations that are not in the count, or of another kind")
    rows = [(_METHODS[row.method], row.network, row.setting, row.beside) for row in found.rows if row.beside]
    return Table(titles, rows, words=(0, 1, 2, 3))


def _published(name: str, figures: Published) -> tuple[str, ...]:
    known = []
    if figures.accuracy is not None:
        known.append(f"accuracy {figures.accuracy:.2%}")
    if figures.spikes_per_neuron is not None:
        known.append(f"{figures.spikes_per_neuron} spikes per neuron per frame")
    if figures.most_accumulations_per_frame is not None:
        known.append(f"less than {figures.most_accumulations_per_frame:,} accumulations per frame")
    if figures.remark:
        known.append(figures.remark)
    return _METHODS[name], "; ".join(known), figures.source


def _layers_table(why: Why) -> Table:
    titles = ("layer", "neurons", "threshold", "large activation, thresholds", "activations above 0", "spikes",
              "of which count in the end", "counts without events", "negative", "spikes per neuron")  # fmt: skip
    rows = [
        (
            row.layer,
            f"{row.neurons:,}",
            f"{row.threshold:.3f}",
            f"{row.large_activation_thresholds:.2f}",
            f"{row.positive_activations:.1%}",
            f"{row.spikes_per_frame:,.0f}",
            f"{row.counts_per_frame:,.0f}",
            f"{row.quantized_counts_per_frame:,.0f}",
            f"{row.negative_spikes:.1%}",
            f"{row.spikes_per_neuron:.3f}",
        )
        for row in why.layers
    ]
    return Table(titles, rows)


def _steps_table(why: Why) -> Table:
    rows = [(step.cause, step.layer, f"{step.accuracy:.2%}", f"{step.lost:+.2%}" if step.lost else "") for step in why.steps]
    return Table(("step", "layer", "accuracy", "lost"), rows, words=(0, 1))


def _missed_table(found: PaperStudy) -> Table:
    titles = ("layer", "share fired, of those active", "share fired, of those silent", "correlation")
    rows = [
        (
            row.layer,
            *("" if each is None else f"{each:.3f}" for each in (row.fired_of_active, row.fired_of_silent, row.correlation)),
        )
        for row in found.why_first_spike
    ]
    return Table(titles, rows)


def _published_line(axes: Axes, found: PaperStudy) -> None:
    accuracy = 100 * (found.published["sigma-delta"].accuracy or 0)
    axes.axhline(accuracy, color=RED, linewidth=1, linestyle="--", label=f"the paper's {accuracy:.2f} %")


def _thresholds(found: PaperStudy) -> Figure:
    figure = Figure(figsize=(11, 3.4))
    whole, close, spikes = figure.subplots(1, 3)
    sweep = found.thresholds
    x = [point.threshold for point in sweep]
    lines = (
        ([point.figures.accuracy for point in sweep], "spiking, by count", BLUE),
        ([point.figures.accuracy_quantized for point in sweep], "quantized, no events", ORANGE),
    )
    for axes in (whole, close):
        for shares, label, color in lines:
            axes.plot(x, [100 * share for share in shares], color=color, marker=".", label=label)
        axes.axhline(100 * found.accuracy_ann["convolutional"]["1bit"], color=GREY, linewidth=1, label="float, 1-bit input")
        _published_line(axes, found)
        axes.set_ylabel("accuracy, %")
    close.set_ylim(97, 100)
    whole.legend(frameon=False, fontsize=9, loc="lower left")
    spikes.plot(x, [point.figures.spikes_per_neuron for point in sweep], color=BLUE, marker=".", label="ours")
    published = found.published["sigma-delta"].spikes_per_neuron or 0
    spikes.axhline(published, color=RED, linewidth=1, linestyle="--", label=f"the paper's {published}")
    spikes.set_ylabel("spikes per neuron per frame")
    spikes.legend(frameon=False, fontsize=9)
    for axes in (whole, close, spikes):
        axes.set_xscale("log")
        axes.set_xlabel("threshold of all layers")
        axes.set_xticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
        axes.minorticks_off()
    figure.tight_layout()
    return figure


def _courses(found: PaperStudy) -> Figure:
    figure = Figure(figsize=(9, 3.6))
    axes = figure.subplots()
    styles = ((GREY, "-"), (GREY, ":"), (BLUE, "-"), (ORANGE, "-"), (GREEN, "-"))
    for course, (color, style) in zip(found.courses, styles, strict=True):
        axes.plot(course.time, [100 * share for share in course.accuracy], style, color=color, label=course.label)
    _published_line(axes, found)
    axes.set_ylim(0, 102)
    axes.set_xlabel("time (0: white pixels have fired, 1: black ones would)")
    axes.set_ylabel("accuracy of the answer so far, %")
    axes.legend(frameon=False, fontsize=9, loc="center right")
    figure.tight_layout()
    return figure


def _operations(found: PaperStudy) -> Figure:
    figure = Figure(figsize=(9, 4.2))
    axes = figure.subplots()

    def curves(
        operations: Sequence[float], by_count: Sequence[float], by_potential: Sequence[float], color: str, label: str
    ) -> None:
        """By count, and dotted by potential."""
        x = [value / 1000 for value in operations]
        axes.plot(x, [100 * share for share in by_count], "-", color=color, marker=".", label=label)
        axes.plot(x, [100 * share for share in by_potential], ":", color=color)

    sweep = [point.figures for point in found.thresholds]
    curves(
        [figures.accumulations_per_frame for figures in sweep],
        [figures.accuracy for figures in sweep],
        [figures.accuracy_potential for figures in sweep],
        BLUE,
        "sigma-delta, thresholds 0.1 to 2",
    )
    for key, label, color in (("grey", "grey", ORANGE), ("1bit", "1-bit", PURPLE)):
        rates = found.rates[key]
        name = f"rate code, 1 to {rates.steps[-1]} steps, {label} input"
        curves(rates.accumulations_per_frame, rates.accuracy, rates.accuracy_potential, color, name)
    axes.plot([], [], ":", color=GREY, label="dotted: by potential")
    points: list[tuple[SigmaDelta | FirstSpikes, str, str, str]] = [
        (found.bundled, BLUE, "s", "sigma-delta, bundled conversion")
    ]
    for network, marker in (("convolutional", "^"), ("two-layer", "v")):
        for key, color in (("currents", GREEN), ("spikes", GREY)):
            points.append((found.first_spikes[network][key], color, marker, f"first spike, {network}, pixels are {key}"))
    for figures, color, marker, label in points:
        x, y = figures.accumulations_per_frame / 1000, 100 * figures.accuracy
        axes.plot([x], [y], marker, color=color, markersize=8, label=label)
    paper = found.published["sigma-delta"]
    most, accuracy = (paper.most_accumulations_per_frame or 0) / 1000, 100 * (paper.accuracy or 0)
    label = f"the paper's {accuracy:.2f} %, less than {most:.0f} thousand"
    axes.plot([most], [accuracy], "<", color=RED, markersize=8, label=label)
    axes.set_xscale("log")
    axes.set_ylim(95, 100.1)
    axes.set_xticks([50, 100, 200, 500, 1000, 2000], ["50", "100", "200", "500", "1,000", "2,000"])
    axes.minorticks_off()
    axes.set_xlabel("thousand accumulations per frame")
    axes.set_ylabel("accuracy, %")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure


_OURS = "The caption is ours, as what the paper's plot shows is not known to us beyond its subject"

FIGURES: dict[str, tuple[Callable[[PaperStudy], Figure], str, str]] = {
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
