"""What stands beside Table I in words: how its spikes are counted, where rows fall short, where ours fire more, and Figure 4."""

import itertools
from collections.abc import Sequence

from model.reports.paper.words import floats_of, percent, share
from model.studies.paper.published import MACS_AS_PRINTED, TABLE_ONE
from model.studies.paper.results import Ours, PaperStudy, TableRow

__all__ = ["gaps_lines", "operations_line", "remedies_sentence", "spikes_lines", "table_notes"]

_PUBLISHED = {row.key: row for row in TABLE_ONE}

_WORSE = 0.003
"""Of accuracy: how much less than published is to be explained."""

_PAPER_STEPS = ("[9] 25", "[9] 15")


def table_notes(found: PaperStudy) -> str:
    """How Table I is to be read."""
    whole = [
        f"{row.published.key.split()[0]} {row.published.model} {row.ours.spikes_per_neuron_whole:.4f}"
        for row in found.table_one
        if row.ours and row.ours.spikes_per_neuron_whole is not None
    ]
    error = 100 * (0.99 * 0.01 / found.frames) ** 0.5
    lines = []
    if whole:
        lines.append(
            "- The rows of [12], [22] and [14] count spikes up to the first output spike, which is the answer. In frames that go "
            f"on after it, spikes a neuron are: {', '.join(whole)}."
        )
    lines.append(f"- The standard error of an accuracy of 99 % on {found.frames:,} digits is {error:.2f} points.")
    return "\n".join(lines) + "\n"


def remedies_sentence(found: PaperStudy) -> str:
    """On which frames the remedies of [12] are measured, and how their float networks stand to the published ones."""
    parts = []
    for row in found.table_one:
        if row.published.key.startswith("[12]") and row.ours and row.ours.accuracy_ann is not None:
            difference = 100 * (row.ours.accuracy_ann - share(row.published.ann))
            word = "better" if difference > 0 else "worse"
            parts.append(
                f"{row.published.model}: {percent(row.ours.accuracy_ann)}, {abs(difference):.2f} points {word} than the "
                f"paper's {row.published.ann}"
            )
    frames = f"Float and spiking accuracy and spikes are of the first {found.detail_frames:,} test digits."
    floats = f" The float networks that these start from are not the published ones ({'; '.join(parts)})." if parts else ""
    return f"{frames}{floats}\n"


def gaps_lines(found: PaperStudy) -> str:
    """Of each accuracy of Table I that is less than published by more than `_WORSE`, where that comes from, as measured."""
    lines = []
    for row in found.table_one:
        if row.ours is None:
            continue
        if _worse(row.published.snn, row.ours.accuracy_snn):
            lines.append(_gap(row.published.title, row.published.snn, row.ours.accuracy_snn, _reasons(found, row)))
        if _worse(row.published.qann, row.ours.accuracy_qann):
            assert row.ours.accuracy_qann is not None
            title = f"{row.published.title}, quantized"
            lines.append(_gap(title, row.published.qann, row.ours.accuracy_qann, _quantized_reasons(found, row)))
    return "\n".join(lines or ["No row is."]) + "\n"


def _worse(published: str, ours: float | None) -> bool:
    return bool(published) and ours is not None and round(share(published) - ours, 6) > _WORSE


def _gap(title: str, published: str, ours: float, reasons: Sequence[str]) -> str:
    less = f"{100 * (share(published) - ours):.2f} points less than {published}."
    return " ".join([f"- *{title}*: {percent(ours)}, {less}", *reasons])


def _signed(step: float) -> str:
    return f"{100 * step + 0.0:+.2f}"


def _reasons(found: PaperStudy, row: TableRow) -> list[str]:
    ours, reasons = row.ours, []
    assert ours is not None
    if row.published.key.startswith("thr"):
        _, binary = floats_of(found)
        reasons.append(f"{_to_ours(found, row)}, and {_signed(ours.accuracy_snn - binary)} by the conversion.")
    elif ours.accuracy_ann is not None:
        reasons.append(f"Its float network has {percent(ours.accuracy_ann)} (the paper's {row.published.ann}).")
    if ours.accuracy_counted is not None:
        lost = f"{100 * (ours.accuracy_counted - ours.accuracy_snn):.2f} points"
        reasons.append(
            f"With the weights on counts of the spikes that reach the outputs it has {percent(ours.accuracy_counted)}: {lost} "
            "are lost where the outputs fire themselves."
        )
    elif ours.accuracy_training is not None:
        reasons.append(_training_reason(found, row, ours, ours.accuracy_training))
    return reasons


def _training_reason(found: PaperStudy, row: TableRow, ours: Ours, training: float) -> str:
    learnt = training >= share(row.published.snn)
    verdict = "what it misses are digits that it was not trained on." if learnt else "it does not get there on these either."
    return f"It has {percent(training)} of {found.calibration.frames:,} training digits: {verdict}"


def _to_ours(found: PaperStudy, row: TableRow) -> str:
    """From the paper's float network to ours on pixels of one bit."""
    grey, binary = floats_of(found)
    steps = (grey - share(row.published.ann), binary - grey)
    float_network, pixels = map(_signed, steps)
    return (
        f"From the paper's float network ({row.published.ann}) it is {float_network} to ours ({percent(grey)}), {pixels} by "
        f"pixels of one bit ({percent(binary)})"
    )


def _quantized_reasons(found: PaperStudy, row: TableRow) -> list[str]:
    assert row.ours is not None and row.ours.accuracy_qann is not None
    published, down = share(row.published.qann), row.ours.accuracy_qann
    _, binary = floats_of(found)
    reasons = [f"{_to_ours(found, row)}, and {_signed(down - binary)} by rounding down."]
    if binary < published:
        reasons.append("The float network on pixels of one bit is below the paper's figure already.")
    nearest = {f"thr {each.threshold:.1f}": each.accuracy_nearest for each in found.direct}.get(row.published.key)
    if nearest is not None:
        between = min(down, nearest) <= published <= max(down, nearest)
        where = "the paper's figure lies between the two" if between else "the paper's figure lies above both"
        if published < min(down, nearest):
            where = "the paper's figure lies below both"
        reasons.append(f"Rounded to the nearest threshold it is {percent(nearest)}: {where}.")
    return reasons


def spikes_lines(found: PaperStudy) -> str:
    """Where ours fires more often than the paper's, what was measured of that."""
    rows = {row.published.key: row.ours for row in found.table_one}
    one, why = rows["thr 1.0"], found.why["threshold 1.0"].layers
    assert one is not None and one.spikes_per_neuron is not None
    lines = [
        f"- *Threshold 1.0*: {one.spikes_per_neuron:.4f} spikes a neuron, the paper {_PUBLISHED['thr 1.0'].spikes}. "
        f"{_first_layer(sum(layer.spikes_per_frame for layer in why), why[0].spikes_per_frame, found)} {_undone(found)}"
    ]
    if between := _between(found, float(_PUBLISHED["thr 1.0"].spikes)):
        lines[-1] += f" {between}"
    parts = []
    for key in _PAPER_STEPS:
        ours = rows[key]
        if ours is not None and ours.spikes_per_neuron is not None:
            times = ours.spikes_per_neuron / float(_PUBLISHED[key].spikes)
            steps = key.removeprefix("[9] ")
            of_paper = f"{times:.2f} times the paper's {_PUBLISHED[key].spikes}"
            parts.append(f"{ours.spikes_per_neuron:.4f} after {steps} steps, {of_paper}")
    by_layer = found.rates["grey"].spikes_by_layer
    first, total = next(iter(by_layer.values())), sum(by_layer.values())
    ratios = [
        high / low
        for high, low in (
            (rows["[9] 25"].spikes_per_neuron, one.spikes_per_neuron),  # type: ignore[union-attr]
            (float(_PUBLISHED["[9] 25"].spikes), float(_PUBLISHED["thr 1.0"].spikes)),
        )
        if high is not None
    ]
    lines.append(
        f"- *Rate code*: {'; '.join(parts)}. {_first_layer(total, first, found)} Its spikes after 25 steps are {ratios[0]:.2f} "
        f"times those at threshold 1.0, in the paper {ratios[1]:.2f} times."
    )
    return "\n".join(lines) + "\n"


def _first_layer(total: float, first: float, found: PaperStudy) -> str:
    layers = found.why["threshold 1.0"].layers
    neurons = layers[0].neurons / sum(layer.neurons for layer in layers)
    return f"The first convolution has {neurons:.0%} of the neurons and fires {first / max(total, 1e-9):.0%} of their spikes."


def _undone(found: PaperStudy) -> str:
    layers = found.why["threshold 1.0"].layers
    fired = sum(layer.spikes_per_frame for layer in layers)
    counted = sum(layer.counts_per_frame for layer in layers)
    return (
        f"Of all spikes {counted / max(fired, 1e-9):.0%} count in the end; the others undo one another within the frame, "
        f"{sum(layer.spikes_per_frame * layer.negative_spikes for layer in layers) / max(fired, 1e-9):.0%} are negative."
    )


def _between(found: PaperStudy, spikes: float) -> str:
    """Between which thresholds ours fires as often as the paper's, and how accurate it is there."""
    sizes = found.counting
    sweep = [
        (
            point.threshold,
            (point.figures.spikes_per_neuron * sizes.neurons + point.figures.input_spikes_per_frame) / sizes.neurons_with_input,
            point.figures.accuracy,
        )
        for point in sorted(found.thresholds, key=lambda point: point.threshold)
    ]
    for (low, more, before), (high, fewer, after) in itertools.pairwise(sweep):
        if more >= spikes >= fewer:
            return (
                f"It fires {spikes:g} times a neuron between thresholds {low:g} ({more:.4f}, {percent(before)}) and {high:g} "
                f"({fewer:.4f}, {percent(after)})."
            )
    return ""


def operations_line(found: PaperStudy) -> str:
    """What the vertical lines of Figure 4 are."""
    printed, true = MACS_AS_PRINTED, found.counting.connections
    return (
        f"The vertical lines are the float network of the paper's size: {2 * printed:,} operations as the paper counts (its "
        f"911K, two for each of the 455K multiply-accumulates, {printed:,}, of its footnote), and {2 * true:,} with the input "
        f"channels of the second convolution ({true:,} multiply-accumulates). The horizontal ones are the float networks: "
        + ", ".join(
            f"{name} {percent(found.accuracy_ann[name]['grey'])}" for name in (found.network, "mnist-paper")
        )
        + ", on grey pixels. The fine-tuned network and those with deferred firing are made of mnist-paper, all else is "
        f"{found.network}.\n"
    )
