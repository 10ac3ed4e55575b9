"""What the page of the paper says of its claims, given figures for which they hold and figures for which they do not."""

from types import SimpleNamespace

import pytest

from model.reports.paper.claims import (
    _binary,
    _coarser,
    _early,
    _hysteresis,
    _multiplications,
    _operations,
    _rate_code,
    _reset,
    claims_table,
)
from model.reports.paper.figures import _apart


def point(threshold, **figures):
    """A threshold of a sweep."""
    usual = {"accuracy": 0.9, "accuracy_quantized": 0.89, "spikes_per_neuron": 0.3, "accumulations_per_frame": 500_000}
    return SimpleNamespace(threshold=threshold, figures=SimpleNamespace(**usual | figures))


def study(*points, **parts):
    return SimpleNamespace(network="x", thresholds=points or (point(1.0),), accuracy_ann={"x": {"grey": 0.95}}, **parts)


@pytest.mark.parametrize(("settled", "holds"), [(0.5, "yes"), (0.62, "no")])
def test_the_answer_is_right_early(settled, holds):
    course = SimpleNamespace(
        time=[0.0, 0.3, 0.39, 0.5], accuracy=[0.1, 0.8, 0.95, 0.97], settled=settled, last_input=0.8, inputs_settled=0.4,
        spikes_settled=0.5,
    )  # fmt: skip
    look = SimpleNamespace(first_right=0.2, last_input=0.7)
    _, ours, verdict = _early(study(courses=[course], look=look))
    assert verdict == holds
    assert ours == (
        f"First digit: right for good at 0.200, its last pixel fires at 0.700. All digits: the answer is final at {settled:.3f} "
        "on average, the last pixel fires at 0.800; 40.0% of the pixels and 50.0% of the spikes have fired then. At 0.39, half "
        "of the last pixel's time, 95.00 % are right"
    )


@pytest.mark.parametrize(
    ("accuracy", "accumulations", "holds"), [(0.95, 599_999, "yes"), (0.95, 600_000, "no"), (0.9499, 1000, "no")]
)
def test_fewer_operations_for_the_float_networks_accuracy(accuracy, accumulations, holds):
    points = (point(1.0), point(0.5, accuracy=accuracy, accumulations_per_frame=accumulations))
    _, ours, verdict = _operations(study(*points))
    assert verdict == holds
    assert "At threshold 1.0 the spiking network is 5.00 points below the float one (95.00 %) with 500,000 accumulations" in ours
    assert (f"threshold 0.5 reaches it with {accumulations:,}" in ours) == (accuracy == 0.95)


def test_where_the_rate_code_is_ahead_before_the_frame_ends():
    course = SimpleNamespace(spikes_per_neuron=[0.0, 0.1, 0.2, 0.3], accuracy=[0.1, 0.4, 0.6, 0.9])
    rates = SimpleNamespace(
        steps=[1, 2, 3], spikes_per_neuron=[0.1, 0.2, 0.4], accuracy=[0.5, 0.7, 0.95], accumulations_per_frame=[1.0, 2.0, 3.0]
    )
    slow = SimpleNamespace(
        steps=[1, 2], spikes_per_neuron=[0.3, 0.5], accuracy=[0.2, 0.8], accumulations_per_frame=[1.0, 2.0]
    )
    found = study(courses=[course], rates={"grey": rates, "1bit": slow})
    claim, ours, holds = _rate_code(found)
    assert claim == "Fewer spikes than the rate code at the same accuracy (Table I)"
    assert ours == (
        "For the 90.00 % of threshold 1.0 with 0.3000 spikes a neuron the rate code on the same network needs 0.4000 (grey "
        "pixels, 3 steps, 3 accumulations) or is not there after 2 steps (1-bit pixels). Before the frame ends, between 0.10 and "
        "0.20 spikes a neuron so far, it is the rate code (grey pixels) that is ahead."
    )
    assert holds == "yes"
    rates.accuracy[1] = 0.9
    assert _rate_code(found)[2] == "no"


@pytest.mark.parametrize(("fired", "holds"), [((0.9, 0.2), "yes"), ((0.9, 0.1), "no"), ((0.3, 0.2), "no")])
def test_direct_quantization_fires_more(fired, holds):
    direct = [
        SimpleNamespace(threshold=threshold, spikes_per_neuron=spikes)
        for threshold, spikes in zip((1.0, 2.0), fired, strict=True)
    ]
    _, ours, verdict = _hysteresis(study(point(1.0), point(2.0, spikes_per_neuron=0.1), direct=direct))
    assert verdict == holds
    times = f"({fired[0] / 0.3:.2f} times)"
    assert ours.startswith(f"threshold 1: {fired[0]:.4f} spikes a neuron without, 0.3000 with it {times}; threshold 2: ")


@pytest.mark.parametrize(
    ("spikes", "quantized", "holds"),
    [
        ((0.5, 0.3), (0.9, 0.8), "yes"),
        ((0.5, 0.3), (0.8, 0.9), "in part"),
        ((0.3, 0.5), (0.9, 0.8), "in part"),
        ((0.3, 0.5), (0.8, 0.9), "no"),
    ],
)
def test_coarser_thresholds_have_more_error_and_fewer_spikes(spikes, quantized, holds):
    points = [
        point(threshold, spikes_per_neuron=fired, accuracy_quantized=right)
        for threshold, fired, right in zip((1.0, 2.0), spikes, quantized, strict=True)
    ]
    _, ours, verdict = _coarser(study(*reversed(points)))
    assert verdict == holds
    assert ours.startswith(f"Quantized, spiking, spikes a neuron: 1: {100 * quantized[0]:.2f} %, 90.00 %, {spikes[0]:.4f}; 2: ")
    assert ours.endswith(f"quantized network is {'never' if quantized[1] < quantized[0] else 'sometimes'} more accurate")
    assert f"there are {'always' if spikes[1] < spikes[0] else 'not always'} fewer spikes" in ours


@pytest.mark.parametrize(
    ("accuracy", "spikes", "holds"),
    [(0.85, 0.1, "yes"), (0.85, 0.4, "no"), (0.95, 0.1, "no"), (0.11, 0.1, "not shown: chance")],
)
def test_a_binary_activation_is_the_extreme_case(accuracy, spikes, holds):
    binary = SimpleNamespace(
        share_of_large=0.4, worths=[1.5, 2.0], accuracy=accuracy, spikes_per_neuron=spikes, accumulations_per_frame=5000,
        accuracy_of_threshold=0.12, accuracy_of_one_answer=0.11,
    )  # fmt: skip
    _, ours, verdict = _binary(study(binary=binary))
    assert verdict == holds
    chance = ", chance" if accuracy == 0.11 else ""
    assert f"(1.50, 2.00 thresholds), without any training for it: {100 * accuracy:.2f} %{chance}, {spikes:.4f} spikes" in ours
    assert ours.endswith("With a spike worth its threshold: 12.00 %, chance")


@pytest.mark.parametrize(("different", "holds"), [(0, "yes"), (1, "no")])
def test_nothing_is_reset_within_a_frame(different, holds):
    kept = SimpleNamespace(neurons=1000, frames=10, fired_often=50, different=different)
    _, ours, verdict = _reset(study(unreset=kept))
    assert verdict == holds
    assert f"50 of which fired more than once, {different} end with another potential" in ours


@pytest.mark.parametrize(("connections", "holds"), [(455_712, "yes"), (1_043_712, "no")])
def test_multiplications_of_the_float_network(connections, holds):
    _, ours, verdict = _multiplications(study(counting=SimpleNamespace(connections=connections)))
    assert verdict == holds
    assert ours.startswith(f"{connections:,}: ")


def test_there_is_a_row_for_each_claim(monkeypatch):
    names = ["_early", "_operations", "_rate_code", "_hysteresis", "_coarser", "_modules", "_binary", "_reset"]
    names.append("_multiplications")
    for name in names:
        monkeypatch.setattr(f"model.reports.paper.claims.{name}", lambda found, name=name: (name, "ours", "yes"))
    assert [claim for claim, _, _ in claims_table(study()).rows] == names


def test_labels_are_moved_apart_upwards():
    assert _apart([0.0, 100.0, 1.0, 0.5]) == [0.0, 100.0, 11.0, 5.5]
