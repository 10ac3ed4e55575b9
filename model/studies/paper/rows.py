"""Rows of ours that the paper's Table I does not have."""

from collections.abc import Mapping, Sequence

from model.studies.paper.first_spikes import FirstSpikes
from model.studies.paper.measurements import SigmaDelta
from model.studies.paper.rates import Rates
from model.studies.paper.results import Factors, Row, SweepPoint

__all__ = ["further_rows"]


def further_rows(
    network: str,
    ann: Mapping[str, Mapping[str, float]],
    bundled_thresholds: Sequence[SweepPoint],
    factors: Factors,
    bundled: SigmaDelta,
    sparse: SigmaDelta,
    deferred: Mapping[str, SigmaDelta],
    rates: Mapping[str, Rates],
    first_spikes: Mapping[str, Mapping[str, FirstSpikes]],
    steps: Sequence[int],
) -> tuple[Row, ...]:
    """Each row's method, network, setting, and figures.

    Parameters
    ----------
    network : str
        The network of the paper's own rows.
    ann : mapping
        Of each float network its accuracy on ``grey`` and on ``1bit`` frames.
    bundled_thresholds, factors
        The bundled network at every threshold, and what it is scaled by.
    bundled, sparse, deferred, rates, first_spikes
        What was measured.
    steps : Sequence[int]
        Of the rate code.
    """
    by_threshold = {point.threshold: point.figures for point in bundled_thresholds}
    rows = [
        _sigma_delta("mnist-paper", f"threshold {at:.1f}, scaled by {by:g}", by_threshold[at / by], ann)
        for at, by in ((1.0, factors.accumulations), (2.0, factors.accumulations), (1.0, factors.spikes))
    ]
    rows.append(_sigma_delta("mnist-paper", "a threshold for each layer (the bundled conversion)", bundled, ann))
    rows.append(_sigma_delta("mnist-paper", "fine-tuned for few events (mnist-sparse)", sparse, ann))
    for label, figures in deferred.items():
        name, budget = label.split(", ")
        rows.append(_sigma_delta(name, f"deferred firing, {budget}", figures, ann, method="deferred"))
    for key, found in rates.items():
        rows += [_rate(network, key, found, each, ann[network][key]) for each in sorted(steps)]
    for name, by_input in first_spikes.items():
        rows += [_first_spike(name, key, found, ann[name]["grey"]) for key, found in by_input.items()]
    return tuple(rows)


def _sigma_delta(
    network: str, setting: str, figures: SigmaDelta, ann: Mapping[str, Mapping[str, float]], *, method: str = "sigma-delta"
) -> Row:
    return Row(
        method=method,
        network=network,
        setting=setting,
        accuracy=figures.accuracy,
        accuracy_lost=round(ann[network]["1bit"] - figures.accuracy, 6),
        accuracy_potential=figures.accuracy_potential,
        spikes_per_neuron=figures.spikes_per_neuron,
        accumulations_per_frame=figures.accumulations_per_frame,
        beside="",
    )


def _rate(network: str, key: str, found: Rates, steps: int, float_accuracy: float) -> Row:
    at = steps - 1
    what = "of them multiply-accumulates" if key == "grey" else "of them for the input"
    return Row(
        method="rate",
        network=network,
        setting=f"{steps} time steps, {'grey' if key == 'grey' else '1-bit'} input",
        accuracy=found.accuracy[at],
        accuracy_lost=round(float_accuracy - found.accuracy[at], 6),
        accuracy_potential=found.accuracy_potential[at],
        spikes_per_neuron=found.spikes_per_neuron[at],
        accumulations_per_frame=found.accumulations_per_frame[at],
        beside=f"{found.input_operations_per_frame:,} {what}; and {found.current_additions_per_step * steps:,} additions of "
        "constant currents",
    )


def _first_spike(network: str, key: str, found: FirstSpikes, float_accuracy: float) -> Row:
    beside = f"{found.accumulations_per_frame_without_end:,} where the frame does not end with the answer"
    if found.input_operations_per_frame:
        beside = f"{found.input_operations_per_frame:,} of them multiply-accumulates; {beside}"
    return Row(
        method="first spike",
        network=network,
        setting=f"pixels are {key}, grey",
        accuracy=found.accuracy,
        accuracy_lost=round(float_accuracy - found.accuracy, 6),
        accuracy_potential=None,
        spikes_per_neuron=found.spikes_per_neuron,
        accumulations_per_frame=found.accumulations_per_frame,
        beside=beside,
    )
