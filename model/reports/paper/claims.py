"""The paper's claims one by one, and what was found in a few lines, from the figures of a study."""

from collections.abc import Callable, Sequence

import numpy as np

from model.reports.html import Table
from model.studies.paper.courses import Course
from model.studies.paper.measurements import SigmaDelta
from model.studies.paper.published import CLAIMED_ACCUMULATIONS, MACS_AS_PRINTED, TABLE_ONE
from model.studies.paper.rates import Rates
from model.studies.paper.results import PaperStudy, TableRow

__all__ = ["claims_table", "found_lines", "gaps_lines"]

_PUBLISHED = {row.key: row for row in TABLE_ONE}

_PIXELS = {"grey": "grey", "1bit": "1-bit"}
"""What the pixels of the rate code are called."""

_WORSE = 0.003
"""Of accuracy: how much less than published is to be explained."""


def found_lines(found: PaperStudy) -> str:
    """What was found, as the lines that docs/paper.md opens with."""
    one, two = (_at_threshold(found, at) for at in (1.0, 2.0))
    with_pixels = [row.ours.spikes_per_neuron or 0.0 for row in found.table_one[:2] if row.ours]
    grey = found.accuracy_ann[found.network]["grey"]
    default = found.deferred["mnist-paper, budget 0.5%"]
    tuned = found.deferred["mnist-paper, fine-tuned (mnist-deferred)"]
    ratios = " and ".join(f"{_ratio(found, at):.1f}" for at in range(len(found.direct)))
    lines = (
        "- Trained as the paper says and converted with its weights as they are, its network answers "
        f"{_percent(one.accuracy)} of the test digits rightly at threshold 1.0 with {one.spikes_per_neuron:.4f} spikes a neuron "
        f"({with_pixels[0]:.4f} with the pixels, as Table I counts; paper: {_PUBLISHED['thr 1.0'].snn}, "
        f"{_PUBLISHED['thr 1.0'].spikes}), and {_percent(two.accuracy)} at threshold 2.0 with {two.spikes_per_neuron:.4f} "
        f"({with_pixels[1]:.4f}; paper: {_PUBLISHED['thr 2.0'].snn}, {_PUBLISHED['thr 2.0'].spikes}).",
        f"- {_accumulations_sentence(found, grey)}",
        f"- {_rates_sentence(found)}",
        f"- Without hysteresis the same network fires {ratios} times as many spikes (thresholds 1.0 and 2.0).",
        "- On the bundled network, trained otherwise, what the paper does not have costs less: neurons that fire when the frame "
        "ends are at "
        f"{_percent(default.accuracy)} with {default.spikes_per_neuron:.4f} spikes a neuron and "
        f"{default.accumulations_per_frame:,} accumulations, the network that was fine-tuned for few events at "
        f"{_percent(found.sparse.accuracy)} with {found.sparse.spikes_per_neuron:.4f} and "
        f"{found.sparse.accumulations_per_frame:,}, and one that was fine-tuned for both at {_percent(tuned.accuracy)} with "
        f"{tuned.spikes_per_neuron:.4f} and {tuned.accumulations_per_frame:,}.",
    )
    return "\n".join(lines) + "\n"


def claims_table(found: PaperStudy) -> Table:
    """Of each claim what the paper says, what we find, and whether it holds."""
    claims = (_early, _operations, _rate_code, _hysteresis, _coarser, _modules, _binary, _reset, _multiplications)
    return Table(("claim", "ours", "holds"), [claim(found) for claim in claims], words=(0, 1, 2))


def gaps_lines(found: PaperStudy) -> str:
    """Of each row of Table I that is worse than published by more than `_WORSE`, where the difference is, as far as measured."""
    lines = []
    for row in found.table_one:
        ours, published = row.ours, _share(row.published.snn)
        if ours is None or round(published - ours.accuracy_snn, 6) <= _WORSE:
            continue
        less = f"{100 * (published - ours.accuracy_snn):.2f} points less."
        start = f"- *{row.published.title}*: {_percent(ours.accuracy_snn)}, {less}"
        lines.append(" ".join([start, *_reasons(found, row)]))
    return "\n".join(lines or ["No row is."]) + "\n"


def _reasons(found: PaperStudy, row: TableRow) -> list[str]:
    ours, reasons = row.ours, []
    assert ours is not None
    if row.published.key.startswith("thr"):
        grey, binary = (found.accuracy_ann[found.network][key] for key in ("grey", "1bit"))
        steps = (grey - _share(row.published.ann), binary - grey, ours.accuracy_snn - binary)
        float_network, pixels, conversion = (f"{100 * step + 0.0:+.2f}" for step in steps)
        reasons.append(
            f"From the paper's float network ({row.published.ann}) it is {float_network} to ours ({_percent(grey)}), {pixels} by "
            f"pixels of one bit ({_percent(binary)}), and {conversion} by the conversion."
        )
    elif ours.accuracy_ann is not None:
        reasons.append(f"Its float network has {_percent(ours.accuracy_ann)} (the paper's {row.published.ann}).")
    if ours.accuracy_counted is not None:
        lost = f"{100 * (ours.accuracy_counted - ours.accuracy_snn):.2f} points"
        reasons.append(
            f"With the weights on counts of the spikes that reach the outputs it has {_percent(ours.accuracy_counted)}: {lost} "
            "are lost where the outputs fire themselves."
        )
    elif ours.accuracy_training is not None:
        learnt = ours.accuracy_training >= _share(row.published.snn)
        verdict = "what it misses are digits that it was not trained on." if learnt else "it does not get there on these either."
        frames = f"{found.calibration.frames:,} training digits"
        reasons.append(f"It has {_percent(ours.accuracy_training)} of {frames}: {verdict}")
    return reasons


Cells = tuple[str, str, str]


def _early(found: PaperStudy) -> Cells:
    course, look = found.courses[0], found.look
    first = f"First digit: right for good at {look.first_right:.3f}" if look.first_right is not None else "First digit: wrong"
    return (
        "The answer is right long before the last input (Fig. 2, text)",
        f"{first}, its last pixel fires at {look.last_input:.3f}. All digits: the answer is final at {course.settled:.3f} on "
        f"average, the last pixel fires at {course.last_input:.3f}; {course.inputs_settled:.1%} of the pixels and "
        f"{course.spikes_settled:.1%} of the spikes have fired then; {_percent(_at(course, course.last_input / 2))} are right at "
        "half of that time",
        _holds(course.settled < 0.75 * course.last_input),
    )


def _operations(found: PaperStudy) -> Cells:
    grey = found.accuracy_ann[found.network]["grey"]
    least = _least(found, grey)
    return (
        f"Fewer than {CLAIMED_ACCUMULATIONS:,} operations for the float network's accuracy (Fig. 4)",
        _accumulations_sentence(found, grey),
        _holds(least is not None and least.accumulations_per_frame < CLAIMED_ACCUMULATIONS),
    )


def _rate_code(found: PaperStudy) -> Cells:
    one = _at_threshold(found, 1.0)
    reached = [(rates, _reached(rates, one.accuracy)) for rates in found.rates.values()]
    return (
        "Fewer spikes than the rate code at the same accuracy (Table I)",
        " ".join([_rates_sentence(found), *_ahead(found)]),
        _holds(all(at is None or rates.spikes_per_neuron[at] > one.spikes_per_neuron for rates, at in reached)),
    )


def _hysteresis(found: PaperStudy) -> Cells:
    parts = [
        f"threshold {direct.threshold:g}: {direct.spikes_per_neuron:.4f} spikes a neuron without, "
        f"{found_at.spikes_per_neuron:.4f} with it ({_ratio(found, at):.2f} times)"
        for at, (direct, found_at) in enumerate(zip(found.direct, _beside_direct(found), strict=True))
    ]
    return (
        "Direct quantization fires more than hysteresis (section II)",
        "; ".join(parts),
        _holds(all(_ratio(found, at) > 1 for at in range(len(found.direct)))),
    )


def _coarser(found: PaperStudy) -> Cells:
    sweep = sorted(found.thresholds, key=lambda point: point.threshold)
    fired = [point.figures.spikes_per_neuron for point in sweep]
    return (
        "Coarser thresholds: more quantization error, fewer spikes (section II)",
        "; ".join(
            f"{point.threshold:g}: {_percent(point.figures.accuracy)}, {point.figures.spikes_per_neuron:.4f}" for point in sweep
        ),
        _holds(fired == sorted(fired, reverse=True)),
    )


def _modules(found: PaperStudy) -> Cells:
    return (
        "Any module of a network converts (conclusion)",
        "Convolutions of one and two dimensions with strides, dilations and groups, transposed ones, linear layers, ReLU "
        "and ReLU6, max-pools, batch normalization, averages, flattening, branches that are added or concatenated, scales "
        "and offsets of the input, and quantized files do; other activations, products of branches and recurrence do not, "
        "and are refused by name (docs/conversion.md, docs/limits.md)",
        "in part",
    )


def _binary(found: PaperStudy) -> Cells:
    binary = found.binary
    return (
        "The extreme case is a binary activation (footnote 2)",
        f"Hidden neurons that fire once or not, each layer's threshold {binary.share_of_large:g} of its large activation, "
        f"without any training for it: {_percent(binary.accuracy)}, {binary.spikes_per_neuron:.4f} spikes a neuron, "
        f"{binary.accumulations_per_frame:,} accumulations",
        "as an extreme; a network must be trained for it",
    )


def _reset(found: PaperStudy) -> Cells:
    kept = found.unreset
    return (
        "Potentials are reset only by a new frame (footnote 3)",
        f"Of {kept.neurons:,} neurons in {kept.frames:,} frames, {kept.fired_often:,} of which fired more than once, "
        f"{kept.different:,} end with another potential than their bias and the weights times the counts of their sources",
        _holds(kept.different == 0),
    )


def _multiplications(found: PaperStudy) -> Cells:
    return (
        f"The float network needs {MACS_AS_PRINTED:,} multiply-accumulates (footnote 10)",
        f"{found.counting.connections:,}: the footnote leaves out the 16 input channels of the second convolution",
        _holds(found.counting.connections == MACS_AS_PRINTED),
    )


def _holds(condition: bool) -> str:
    return "yes" if condition else "no"


def _share(percent: str) -> float:
    """Of an accuracy as the paper prints it."""
    return float(percent.removesuffix(" %")) / 100


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _points(difference: float) -> str:
    """How far above or below."""
    return f"{abs(100 * difference):.2f} points {'below' if difference < 0 else 'above'}" if difference else "as accurate as"


def _at_threshold(found: PaperStudy, threshold: float) -> SigmaDelta:
    [figures] = [point.figures for point in found.thresholds if point.threshold == threshold]
    return figures


def _beside_direct(found: PaperStudy) -> list[SigmaDelta]:
    """The figures with hysteresis at the thresholds of those without."""
    return [_at_threshold(found, direct.threshold) for direct in found.direct]


def _ratio(found: PaperStudy, at: int) -> float:
    return found.direct[at].spikes_per_neuron / max(_beside_direct(found)[at].spikes_per_neuron, 1e-9)


def _at(course: Course, time: float) -> float:
    """Accuracy of the answer so far."""
    return course.accuracy[max(at for at, when in enumerate(course.time) if when <= time)]


def _least(found: PaperStudy, accuracy: float) -> SigmaDelta | None:
    """The fewest accumulations of a threshold with at least this accuracy."""
    return _fewest([point.figures for point in found.thresholds], lambda figures: figures.accuracy >= accuracy)


def _fewest(all_of_them: Sequence[SigmaDelta], suits: Callable[[SigmaDelta], bool]) -> SigmaDelta | None:
    return min(filter(suits, all_of_them), key=lambda figures: figures.accumulations_per_frame, default=None)


def _accumulations_sentence(found: PaperStudy, grey: float) -> str:
    one, least = _at_threshold(found, 1.0), _least(found, grey)
    start = (
        f"At threshold 1.0 the spiking network is {_points(one.accuracy - grey)} the float one ({_percent(grey)}) with "
        f"{one.accumulations_per_frame:,} accumulations"
    )
    if least is None:
        return f"{start}; no threshold of the table below reaches it (the paper: with fewer than {CLAIMED_ACCUMULATIONS:,})."
    [at] = [point.threshold for point in found.thresholds if point.figures is least]
    return (
        f"{start}; threshold {at:g} reaches it with {least.accumulations_per_frame:,} (the paper: with fewer than "
        f"{CLAIMED_ACCUMULATIONS:,})."
    )


def _reached(rates: Rates, accuracy: float) -> int | None:
    """The first step at which the rate code is as accurate."""
    return next((at for at, reached in enumerate(rates.accuracy) if reached >= accuracy), None)


def _ahead(found: PaperStudy) -> list[str]:
    """Where the answer so far is more often right with as many spikes of the rate code, a sentence for each of its inputs."""
    course, sentences = found.courses[0], []
    for key, rates in found.rates.items():
        reached = np.interp(course.spikes_per_neuron, rates.spikes_per_neuron, rates.accuracy, left=0.0)
        ahead = [
            spikes
            for spikes, accuracy, others in zip(course.spikes_per_neuron, course.accuracy, reached, strict=True)
            if others > accuracy
        ]
        if ahead:
            sentences.append(
                f"Before the frame ends, between {ahead[0]:.2f} and {ahead[-1]:.2f} spikes a neuron so far, it is the rate code "
                f"({_PIXELS[key]} pixels) that is ahead."
            )
    return sentences


def _rates_sentence(found: PaperStudy) -> str:
    one, parts = _at_threshold(found, 1.0), []
    for key, rates in found.rates.items():
        at, pixels = _reached(rates, one.accuracy), _PIXELS[key]
        parts.append(
            f"is not there after {rates.steps[-1]} steps ({pixels} pixels)"
            if at is None
            else f"needs {rates.spikes_per_neuron[at]:.4f} ({pixels} pixels, {rates.steps[at]} steps, "
            f"{rates.accumulations_per_frame[at]:,.0f} accumulations)"
        )
    return (
        f"For the {_percent(one.accuracy)} of threshold 1.0 with {one.spikes_per_neuron:.4f} spikes a neuron the rate code "
        f"on the same network {' or '.join(parts)}."
    )
