"""The accuracy to expect, from errors of margins."""

import numpy as np
import pytest

from model.conversion.margins import Margins

SCORES = np.array([[3.0, 1.0, 0.0], [1.0, 5.0, 0.0], [0.0, 0.5, 1.0], [2.0, 0.0, 1.0]])
LABELS = np.array([0, 1, 2, 2])
"""Margins of 2, 4, 0.5 and -1."""


def test_the_float_network_itself_has_no_errors_in_any_unit():
    margins = Margins(SCORES, LABELS)
    # What is added to all scores of a frame is no error.
    for scores in (SCORES, 7 * SCORES + 100, SCORES[:3]):
        errors = margins.errors(scores)
        assert np.abs(errors).max() < 1e-12 and margins.size(errors) < 1e-12
        assert margins.expected(errors) == pytest.approx(0.75)


def test_errors_of_any_frame_meet_margins_of_any_other():
    margins = Margins(SCORES, LABELS)
    assert margins.size(np.array([1.5, -1.5])) == pytest.approx(1.5 / 1.875)
    # An error of -3 turns two of three; one of 2 turns the fourth the other way. A tie is turned by half.
    assert margins.expected(np.array([-3.0])) == pytest.approx(0.75 - 2 * 0.5)
    assert margins.expected(np.array([2.0])) == pytest.approx(0.75 + 2 * 0.25)
    assert margins.expected(np.array([-2.0, 0.0])) == pytest.approx(0.75 - 2 * (0.25 + 0.125) / 2)


def test_room_is_how_much_greater_errors_may_be():
    margins = Margins(SCORES, LABELS)
    # The margin of 0.5 is turned by a half of the error, that of 2 by twice of it.
    assert margins.room(np.array([-1.0]), 0.75) == pytest.approx(0.5, abs=0.02)
    assert margins.room(np.array([-1.0]), 0.75 - 2 * 0.25) == pytest.approx(2, abs=0.02)
    assert margins.room(np.array([-1.0]), 0.9) == 0
    assert margins.room(np.array([0.0]), 0.75) == pytest.approx(4, abs=0.02)


def test_a_single_output_answers_by_its_sign():
    margins = Margins(np.array([[2.0], [-1.0], [0.5]]), np.array([1, 0, 0]))
    assert margins.expected(np.zeros(3)) == pytest.approx(2 / 3)
    assert margins.errors(np.array([[4.0], [-2.0], [1.0]])) == pytest.approx(np.zeros(3))
    # All zeros say nothing: each margin is off by itself.
    assert margins.errors(np.zeros((3, 1))) == pytest.approx([-2, -1, 0.5])
    assert margins.expected(margins.errors(np.zeros((3, 1)))) < 0.67


def test_a_better_network_is_known_from_a_lucky_one():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, 400)
    scores = np.eye(4)[labels]
    # Wrong on 30 frames, of which the other one is right on all, or on 4 with 2 others lost.
    scores[:30] = np.roll(scores[:30], 1, axis=1)
    margins = Margins(scores, labels)
    assert margins.accuracy == 370 / 400
    better, lucky = scores.copy(), scores.copy()
    better[:30] = np.eye(4)[labels[:30]]
    lucky[:4], lucky[30:32] = np.eye(4)[labels[:4]], np.roll(scores[30:32], 1, axis=1)
    assert margins.surpassed_by(better) and not margins.surpassed_by(lucky) and not margins.surpassed_by(scores)
    # Of 9 gained and 2 lost luck makes as many once in thirty times: enough for what was not picked among many.
    likely = lucky.copy()
    likely[:9] = better[:9]
    assert margins.surpassed_by(likely, 0.05) and not margins.surpassed_by(likely) and not margins.surpassed_by(lucky, 0.05)
    # Of the first frames alone.
    assert margins.surpassed_by(better[:50]) and not margins.surpassed_by(lucky[:50])
