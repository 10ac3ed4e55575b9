"""The paper's claims one by one, and what was found in a few lines, from the figures of a study."""

from collections.abc import Callable, Sequence

import numpy as np

from model.reports.html import Table
from model.reports.paper.words import percent
from model.studies.paper.courses import Course
from model.studies.paper.measurements import SigmaDelta
from model.studies.paper.published import CLAIMED_ACCUMULATIONS, MACS_AS_PRINTED, TABLE_ONE
from model.studies.paper.rates import Rates
from model.studies.paper.results import PaperStudy

__all__ = ["claims_table", "found_lines"]

_PUBLISHED = {row.key: row for row in TABLE_ONE}

_CHANCE = 1.5
"""Up to so many times the accuracy of always the same answer, an accuracy is chance."""

_PIXELS = {"grey": "grey", "1bit": "1-bit"}
"""What the pixels of the rate code are called."""


def found_lines(found: PaperStudy) -> str:
    """What was found, as the lines that docs/paper.md opens with."""
    one, two = (_at_threshold(found, at) for at in (1.0, 2.0))
    with_pixels = [row.ours.spikes_per_neuron or 0.0 for row in found.table_one[:2] if row.ours]
    grey = found.accuracy_ann[found.network]["grey"]
    default = found.deferred["mnist-paper, budget 0.5%"]
    tuned = found.deferred["mnist-paper, fine-tuned (mnist-deferred)"]
    ratios = " and ".join(f"{_ratio(found, at):.1f}" for at in range(len(found.direct)))
    lines = (
        "- Trained as far as the paper says how, and converted with its weights as they are, its network answers "
        f"{percent(one.accuracy)} of the test digits rightly at threshold 1.0 with {one.spikes_per_neuron:.4f} spikes a neuron "
        f"({with_pixels[0]:.4f} with the pixels, as Table I counts; paper: {_PUBLISHED['thr 1.0'].snn}, "
        f"{_PUBLISHED['thr 1.0'].spikes}), and {percent(two.accuracy)} at threshold 2.0 with {two.spikes_per_neuron:.4f} "
        f"({with_pixels[1]:.4f}; paper: {_PUBLISHED['thr 2.0'].snn}, {_PUBLISHED['thr 2.0'].spikes}).",
        f"- {_accumulations_sentence(found, grey)}",
        f"- {_rates_sentence(found)}",
        f"- Without hysteresis the same network fires {ratios} times as many spikes (thresholds 1.0 and 2.0).",
        "- On `mnist-paper`, trained otherwise, what the paper does not have costs less: neurons that fire when the frame "
        "ends are at "
        f"{percent(default.accuracy)} with {default.spikes_per_neuron:.4f} spikes a neuron and "
        f"{default.accumulations_per_frame:,} accumulations, the network that was fine-tuned for few events at "
        f"{percent(found.sparse.accuracy)} with {found.sparse.spikes_per_neuron:.4f} and "
        f"{found.sparse.accumulations_per_frame:,}, and one that was fine-tuned for both at {percent(tuned.accuracy)} with "
        f"{tuned.spikes_per_neuron:.4f} and {tuned.accumulations_per_frame:,}.",
    )
    return "\n".join(lines) + "\n"


def claims_table(found: PaperStudy) -> Table:
    """Of each claim what the paper says, what we find, and whether it holds."""
    claims = (_early, _operations, _rate_code, _hysteresis, _coarser, _modules, _binary, _reset, _multiplications)
    return Table(("claim", "ours", "holds"), [claim(found) for claim in claims], words=(0, 1, 2))


Cells = tuple[str, str, str]


def _early(found: PaperStudy) -> Cells:
    course, look = found.courses[0], found.look
    half, right = _so_far(course, course.last_input / 2)
    first = f"First digit: right for good at {look.first_right:.3f}" if look.first_right is not None else "First digit: wrong"
    return (
        "The answer is right long before the last input (Fig. 2, text)",
        f"{first}, its last pixel fires at {look.last_input:.3f}. All digits: the answer is final at {course.settled:.3f} on "
        f"average, the last pixel fires at {course.last_input:.3f}; {course.inputs_settled:.1%} of the pixels and "
        f"{course.spikes_settled:.1%} of the spikes have fired then. At {half:.2f}, half of the last pixel's "
        f"time, {percent(right)} are right",
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
    quantized = [point.figures.accuracy_quantized for point in sweep]
    fewer, worse = (values == sorted(values, reverse=True) for values in (fired, quantized))
    figures = "; ".join(
        f"{point.threshold:g}: {percent(point.figures.accuracy_quantized)}, {percent(point.figures.accuracy)}, "
        f"{point.figures.spikes_per_neuron:.4f}"
        for point in sweep
    )
    return (
        "Coarser thresholds: more quantization error, fewer spikes (section II)",
        f"Quantized, spiking, spikes a neuron: {figures}. From threshold to threshold there are "
        f"{'always' if fewer else 'not always'} fewer spikes, and the quantized network is {'never' if worse else 'sometimes'} "
        "more accurate",
        _holds(True) if fewer and worse else "in part" if fewer or worse else _holds(False),
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
    binary, one = found.binary, _at_threshold(found, 1.0)
    chance = binary.accuracy_of_one_answer
    worths = ", ".join(f"{worth:.2f}" for worth in binary.worths)
    fewer, worse = binary.spikes_per_neuron < one.spikes_per_neuron, binary.accuracy < one.accuracy
    return (
        "The extreme case is a binary activation (footnote 2)",
        f"Hidden neurons that fire once or not, each layer's threshold {binary.share_of_large:g} of its large activation, a "
        f"spike worth what activations above it are on average ({worths} thresholds), without any training for it: "
        f"{_or_chance(binary.accuracy, chance)}, {binary.spikes_per_neuron:.4f} spikes a neuron, "
        f"{binary.accumulations_per_frame:,} accumulations. With a spike worth its threshold: "
        f"{_or_chance(binary.accuracy_of_threshold, chance)}",
        "not shown: chance" if binary.accuracy <= _CHANCE * chance else _holds(fewer and worse),
    )


def _or_chance(accuracy: float, chance: float) -> str:
    """An accuracy, with a word where the network has learnt nothing to speak of."""
    return f"{percent(accuracy)}{', chance' if accuracy <= _CHANCE * chance else ''}"


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


def _so_far(course: Course, time: float) -> tuple[float, float]:
    """The last time that was looked at by then, and the accuracy of the answer so far."""
    at = max(at for at, when in enumerate(course.time) if when <= time)
    return course.time[at], course.accuracy[at]


def _least(found: PaperStudy, accuracy: float) -> SigmaDelta | None:
    """The fewest accumulations of a threshold with at least this accuracy."""
    return _fewest([point.figures for point in found.thresholds], lambda figures: figures.accuracy >= accuracy)


def _fewest(all_of_them: Sequence[SigmaDelta], suits: Callable[[SigmaDelta], bool]) -> SigmaDelta | None:
    return min(filter(suits, all_of_them), key=lambda figures: figures.accumulations_per_frame, default=None)


def _accumulations_sentence(found: PaperStudy, grey: float) -> str:
    one, least = _at_threshold(found, 1.0), _least(found, grey)
    start = (
        f"At threshold 1.0 the spiking network is {_points(one.accuracy - grey)} the float one ({percent(grey)}) with "
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
        f"For the {percent(one.accuracy)} of threshold 1.0 with {one.spikes_per_neuron:.4f} spikes a neuron the rate code "
        f"on the same network {' or '.join(parts)}."
    )
