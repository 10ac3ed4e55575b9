"""Tables of the study of the paper: of the page, and of docs/paper.md."""

from model.reports.html import Table
from model.reports.markdown import markdown
from model.reports.paper.claims import claims_table, found_lines
from model.reports.paper.notes import gaps_lines, operations_line, remedies_sentence, spikes_lines, table_notes
from model.reports.paper.words import percent
from model.studies.paper.results import PaperStudy
from model.studies.paper.why import Why

__all__ = [
    "DOCS_TABLES",
    "beside_table",
    "counting_table",
    "docs_tables",
    "further_table",
    "hysteresis_table",
    "layers_table",
    "missed_table",
    "remedies_table",
    "steps_table",
    "sweep_table",
    "table_one",
]

_METHODS = {
    "sigma-delta": "this method",
    "deferred": "this method, deferred",
    "rate": "rate code",
    "first spike": "time to first spike",
}

_WHY = "threshold 1.0"


DOCS_TABLES = (
    "found", "one", "notes", "gaps", "spikes", "remedies", "counting", "claims", "operations", "thresholds", "hysteresis",
    "further", "beside", "layers", "steps", "missed",
)  # fmt: skip
"""The marked places of docs/paper.md."""


def docs_tables(found: PaperStudy) -> dict[str, str]:
    """Of each marked place of docs/paper.md what stands there."""
    tables = {
        "one": table_one(found),
        "remedies": remedies_table(found),
        "counting": counting_table(found),
        "claims": claims_table(found),
        "thresholds": sweep_table(found),
        "hysteresis": hysteresis_table(found),
        "further": further_table(found),
        "beside": beside_table(found),
        "layers": layers_table(found.why[_WHY]),
        "steps": steps_table(found.why[_WHY]),
        "missed": missed_table(found),
    }
    texts = {"found": found_lines(found), "notes": table_notes(found), "gaps": gaps_lines(found)}
    texts |= {"spikes": spikes_lines(found), "operations": operations_line(found)}
    texts |= {name: markdown(table.titles, table.rows) for name, table in tables.items()}
    texts["remedies"] += f"\n{remedies_sentence(found)}"
    return {name: texts[name] for name in DOCS_TABLES}


def spikes(value: float | None) -> str:
    """Spikes a neuron with four digits behind the point, so that rounding does not mislead."""
    return "" if value is None else f"{value:.4f}"


def table_one(found: PaperStudy) -> Table:
    """Table I: of each figure the paper's and ours."""
    titles = ("row", "network", *(
        f"{what}: {whose}" for what in ("float", "quantized", "spiking", "neurons", "synapses", "spikes a neuron")
        for whose in ("paper", "ours")
    ))  # fmt: skip
    rows = []
    for row in found.table_one:
        paper, ours = row.published, row.ours
        cells = [f"{paper.title} (ours: {ours.setting})" if ours and ours.setting else paper.title, paper.model]
        if ours is None:
            for cell in (paper.ann, paper.qann, paper.snn, paper.neurons, paper.synapses, paper.spikes):
                cells += [cell, ""]
        else:
            cells += [paper.ann, percent(ours.accuracy_ann), paper.qann, percent(ours.accuracy_qann), paper.snn]
            cells += [percent(ours.accuracy_snn), paper.neurons, f"{ours.neurons:,}", paper.synapses, f"{ours.synapses:,}"]
            cells += [paper.spikes, spikes(ours.spikes_per_neuron)]
        rows.append(tuple(cells))
    return Table(titles, rows, words=(0, 1))


def remedies_table(found: PaperStudy) -> Table:
    """The variants of the rows of [12], and which of them stand there."""
    titles = ("network", "remedy for late inhibition", f"spiking, {found.calibration.held_out_frames:,} held-out digits",
              "float", "spiking", "spikes a neuron", "of whole frames", "in Table I")  # fmt: skip
    rows = [
        (
            each.shape,
            each.remedy,
            percent(each.accuracy_held_out),
            percent(each.accuracy_ann),
            percent(each.accuracy),
            spikes(each.spikes_per_neuron),
            spikes(each.spikes_per_neuron_whole),
            "yes" if each.chosen else "",
        )
        for each in found.remedies
    ]
    return Table(titles, rows, words=(0, 1, 7))


def counting_table(found: PaperStudy) -> Table:
    """How the paper's 15k neurons and 100k synapses may be counted."""
    sizes = found.counting
    rows = [
        ("neurons: convolutions and linear layers", f"{sizes.neurons:,}", "15k"),
        ("the same with the input's pixels", f"{sizes.neurons_with_input:,}", "15k"),
        ("the same with the pools' outputs", f"{sizes.neurons_with_input_and_pools:,}", "15k"),
        ("synapses: weights, shared ones once", f"{sizes.weights:,}", "100k"),
        ("the same with biases", f"{sizes.weights_and_biases:,}", "100k"),
        ("weights of the linear layers alone", f"{sizes.weights_of_linear_layers:,}", "100k"),
        ("connections, weights not shared", f"{sizes.connections:,}", "100k"),
    ]
    return Table(("what is counted", "ours", "paper"), rows)


def further_table(found: PaperStudy) -> Table:
    """Rows that the paper does not have."""
    titles = ("method", "network", "setting", "accuracy", "lost", "by potential", "spikes a neuron", "accumulations")
    rows = [
        (
            _METHODS[row.method],
            row.network,
            row.setting,
            percent(row.accuracy),
            f"{100 * row.accuracy_lost + 0.0:.2f}",
            percent(row.accuracy_potential),
            spikes(row.spikes_per_neuron),
            f"{row.accumulations_per_frame:,.0f}",
        )
        for row in found.rows
    ]
    return Table(titles, rows, words=(0, 1, 2))


def beside_table(found: PaperStudy) -> Table:
    """Operations that the count of accumulations leaves out."""
    titles = ("method", "network", "setting", "operations that are not in the count, or of another kind")
    rows = [(_METHODS[row.method], row.network, row.setting, row.beside) for row in found.rows if row.beside]
    return Table(titles, rows, words=(0, 1, 2, 3))


def sweep_table(found: PaperStudy) -> Table:
    """The network trained as the paper's at every threshold."""
    rows = [
        (
            f"{point.threshold:g}",
            percent(point.figures.accuracy_quantized),
            percent(point.figures.accuracy),
            percent(point.figures.accuracy_potential),
            spikes(point.figures.spikes_per_neuron),
            f"{point.figures.accumulations_per_frame:,}",
        )
        for point in found.thresholds
    ]
    return Table(("threshold", "quantized", "spiking", "by potential", "spikes a neuron", "accumulations"), rows)


def hysteresis_table(found: PaperStudy) -> Table:
    """With hysteresis and without."""
    by_threshold = {point.threshold: point.figures for point in found.thresholds}
    rows = []
    for direct in found.direct:
        ours = by_threshold[direct.threshold]
        negative = found.why[f"threshold {direct.threshold:.1f}"].layers
        fired = sum(layer.spikes_per_frame for layer in negative)
        share = sum(layer.spikes_per_frame * layer.negative_spikes for layer in negative) / max(fired, 1e-9)
        rows.append((
            f"{direct.threshold:g}", "hysteresis (Algorithm 1)", percent(ours.accuracy), spikes(ours.spikes_per_neuron),
            f"{share:.1%}", f"{ours.accumulations_per_frame:,}",
        ))  # fmt: skip
        rows.append((
            "", "direct quantization", percent(direct.accuracy), spikes(direct.spikes_per_neuron),
            f"{direct.negative_spikes:.1%}", f"{direct.accumulations_per_frame:,}",
        ))  # fmt: skip
        rows.append(("", "rounded to the nearest threshold, no events", percent(direct.accuracy_nearest), "", "", ""))
    return Table(("threshold", "neuron", "accuracy", "spikes a neuron", "negative", "accumulations"), rows, words=(0, 1))


def layers_table(why: Why) -> Table:
    """Activations and spikes of each layer."""
    titles = ("layer", "neurons", "threshold", "large activation, thresholds", "activations above 0", "spikes",
              "of which count in the end", "counts without events", "negative", "spikes a neuron")  # fmt: skip
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
            spikes(row.spikes_per_neuron),
        )
        for row in why.layers
    ]
    return Table(titles, rows)


def steps_table(why: Why) -> Table:
    """Where accuracy goes, step by step."""
    rows = [
        (step.cause, step.layer, percent(step.accuracy), f"{100 * step.lost:+.2f}" if step.lost else "") for step in why.steps
    ]
    return Table(("step", "layer", "accuracy", "lost"), rows, words=(0, 1))


def missed_table(found: PaperStudy) -> Table:
    """What neurons of the time to first spike do against the float network's."""
    titles = ("layer", "share fired, of those active", "share fired, of those silent", "correlation")
    rows = [
        (
            row.layer,
            *("" if each is None else f"{each:.3f}" for each in (row.fired_of_active, row.fired_of_silent, row.correlation)),
        )
        for row in found.why_first_spike
    ]
    return Table(titles, rows)
