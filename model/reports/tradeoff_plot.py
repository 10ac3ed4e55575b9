"""The plot of a trade-off."""

from collections.abc import Callable

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.reports.html import BLUE, ORANGE, PLOTS
from model.studies.tradeoff import Measured, Tradeoff

__all__ = ["tradeoff_plot"]


def tradeoff_plot(found: Tradeoff) -> Figure:
    """Accuracy against spikes per neuron, against accumulations, and against weight bits."""
    with mpl.rc_context(PLOTS):
        figure = Figure(figsize=(9.5, 3.4))
        by_spikes, by_work, by_bits = figure.subplots(1, 3, sharey=True)
        prices = sorted(found.prices, key=lambda point: point.measured.spikes_per_neuron)
        costs: tuple[tuple[Axes, Callable[[Measured], float], str], ...] = (
            (by_spikes, lambda measured: measured.spikes_per_neuron, "spikes per neuron per frame"),
            (by_work, lambda measured: measured.accumulations_per_frame / 1000, "thousand accumulations per frame"),
        )
        for axes, cost, title in costs:
            accuracies = [100 * point.measured.accuracy_snn for point in prices]
            axes.plot([cost(point.measured) for point in prices], accuracies, marker="o", color=BLUE)
            for point, accuracy in zip(prices, accuracies, strict=True):
                axes.annotate(
                    f"{point.settings.event_price:g}",
                    (cost(point.measured), accuracy),
                    xytext=(4, -12),
                    textcoords="offset points",
                    fontsize=9,
                    color="#55616d",
                )
            for name, measured in found.bundled.items():
                axes.plot(cost(measured), 100 * measured.accuracy_snn, marker="*", markersize=11, linestyle="", label=name)
            axes.set_xlabel(title, fontsize=10)
        by_spikes.legend(fontsize=9, frameon=False, loc="lower right")
        bits = sorted(found.bits, key=lambda point: point.settings.weight_bits)
        widths = [point.settings.weight_bits for point in bits]
        by_bits.plot(widths, [100 * point.measured.accuracy_snn for point in bits], marker="o", color=ORANGE)
        by_bits.set_xticks(widths)
        by_bits.set_xlabel("weight bits", fontsize=10)
        by_spikes.set_ylabel("accuracy by spike count, %")
        figure.tight_layout()
    return figure
