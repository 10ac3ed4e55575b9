"""The page that shows an evaluation: tables and plots."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.reports.html import BLUE, GREEN, ORANGE, PLOTS, Picture, Table, lay_out, page, picture
from model.studies.evaluation import Evaluation
from model.studies.instruments import Course, WorstNeuron

__all__ = ["evaluation_page"]


def evaluation_page(found: Evaluation) -> str:
    """The page of an evaluation, as HTML."""
    with mpl.rc_context(PLOTS):
        plots = {
            "layers_plot": _layers_plot(found),
            "course_plot": _course_plot(found.course, _time(found)),
            "confusion_plot": _confusion_plot(found.confusion),
        }
    return page(
        "evaluation.html",
        title=found.network,
        found=found,
        accuracies=_accuracies(found),
        totals=_totals(found),
        layers=_layers(found),
        agreement=_agreement(found),
        float_agreement=_float_agreement(found),
        **plots,
    )


def _accuracies(found: Evaluation) -> Table:
    coded = "1-bit input" if found.input_levels == 1 else f"input of {found.input_levels} levels"
    stages = (
        ("float network, grey input", found.accuracy_ann),
        (f"float network, {coded}", found.accuracy_ann_1bit),
        ("quantized network, no events", found.accuracy_qann),
        ("spiking network, by spike count", found.accuracy_snn),
        ("spiking network, by membrane potential", found.accuracy_snn_potential),
    )
    return Table(("network", "accuracy"), [(name, f"{share:.2%}") for name, share in stages if share is not None])


def _totals(found: Evaluation) -> Table:
    macs = f"{found.macs_true:,} (by the paper's count {found.macs_paper:,})"
    return Table(
        ("", ""),
        [
            ("input events per frame", f"{found.input_events_per_frame:,}"),
            ("spikes per neuron per frame", f"{found.spikes_per_neuron:,}"),
            ("accumulations per frame", f"{found.accumulations_per_frame:,}"),
            ("multiply-accumulates of the float network", macs),
            ("input events of a layer that saturated something, all frames", f"{found.saturated_events:,}"),
        ],
    )


def _layers(found: Evaluation) -> Table:
    titles = ("layer", "shape", "events in", "spikes", "spikes per neuron", "accumulations", "MACs", "saturated")
    rows = [
        (
            layer.layer,
            f"{layer.shape}",
            f"{layer.events_per_frame:,.1f}",
            f"{layer.spikes_per_frame:,.1f}",
            f"{layer.spikes_per_neuron:,}",
            f"{layer.accumulations_per_frame:,}",
            f"{layer.macs_true:,}",
            f"{layer.saturated_events:,}",
        )
        for layer in found.layers
    ]
    return Table(titles, rows)


def _agreement(found: Evaluation) -> Table:
    titles = ("layer", "correlation", "equal", "mean difference", "mean magnitude", "worst neurons (y, x, c)")
    rows = [
        (
            row.layer,
            _correlation(row.correlation),
            f"{row.counts_equal:.2%}",
            f"{row.count_difference_mean:+.4f}",
            f"{row.count_difference_mean_absolute:.4f}",
            _neurons(row.worst_neurons),
        )
        for row in found.agreement
    ]
    return Table(titles, rows)


def _float_agreement(found: Evaluation) -> Table:
    titles = ("layer", "correlation", "mean difference", "mean magnitude", "worst neurons (y, x, c)")
    rows = [
        (
            row.layer,
            _correlation(row.floats.float_correlation),
            f"{row.floats.float_difference_mean:+.4f}",
            f"{row.floats.float_difference_mean_absolute:.4f}",
            _neurons(row.floats.float_worst_neurons),
        )
        for row in found.agreement
        if row.floats is not None
    ]
    return Table(titles, rows)


def _correlation(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _neurons(worst: Sequence[WorstNeuron]) -> str:
    return ", ".join("({}, {}, {})".format(*found.neuron) for found in worst[:3])


def _layers_plot(found: Evaluation) -> Picture:
    layers = [layer for layer in found.layers if layer.neurons]
    figure = Figure(figsize=(9, 2.9))
    for axes, values, title in zip(
        figure.subplots(1, 2),
        ([layer.spikes_per_frame for layer in layers], [layer.accumulations_per_frame for layer in layers]),
        ("spikes per frame", "accumulations per frame"),
        strict=True,
    ):
        bars = axes.barh([layer.layer for layer in layers], values, color=BLUE, height=0.6)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, color="#55616d")
        axes.set_title(title, loc="left", fontsize=11)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.18)
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
        axes.xaxis.set_major_formatter("{x:,.0f}")
    lay_out(figure)
    return picture(figure, "spikes and accumulations of each layer")


def _time(found: Evaluation) -> str:
    """What the axis of time says."""
    what = "time (0: white pixels, 1: black)" if found.input_levels == 1 else "time (1 less the way past a limit)"
    return what if found.firing == "immediate" else f"{what}; 1: the last flush"


def _course_plot(course: Course, time: str) -> Picture:
    figure = Figure(figsize=(9, 3.1))
    by_time, by_spikes, by_work = figure.subplots(1, 3, sharey=True)
    events = course.by_events
    work = [value / 1000 for value in events.accumulations_per_frame]
    for axes, values, accuracy, title, color in (
        (by_time, course.time, course.accuracy, time, BLUE),
        (by_spikes, events.spikes_per_frame, events.accuracy, "spikes so far", ORANGE),
        (by_work, work, events.accuracy, "thousand accumulations so far", GREEN),
    ):
        axes.plot(values, [100 * share for share in accuracy], color=color, marker=".", markersize=4)
        axes.set_xlabel(title, fontsize=10)
        _mark(axes, values, accuracy)
    by_time.set_ylabel("accuracy, %")
    lay_out(figure)
    return picture(figure, "accuracy of the answer so far against time, spikes and accumulations")


def _mark(axes: Axes, values: Sequence[float], accuracy: Sequence[float]) -> None:
    """Mark where the answer is first within a tenth of a percentage point of the whole frame's."""
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


def _confusion_plot(confusion: Sequence[Sequence[int]]) -> Picture:
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
    return picture(figure, "frames by class and answer")
