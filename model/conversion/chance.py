"""Whether an accuracy says anything: against guessing, and against pixels of another scale."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc

__all__ = ["SIGNIFICANCE", "better_by_more_than_luck", "near_chance", "other_scale", "warn_of_chance"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]

SIGNIFICANCE = 0.001
"""Probability with which luck alone may be taken for more than luck."""

_DOUBT = 0.01
"""The same where no more hangs on it than advice to look."""

_FEW = 20
"""So many frames of one class are no accident."""


def near_chance(answers: Ints, labels: Ints) -> bool:
    """Whether who always answers the most frequent class could be right as often by luck.

    The test is one-sided and exact: right answers of a guesser are binomial, its share the most frequent class's.

    Parameters
    ----------
    answers, labels : numpy.ndarray
        Classes, ``(frames,)``.
    """
    right, frames = int((answers == labels).sum()), len(labels)
    share = np.bincount(labels).max() / frames
    return right == 0 or share == 1 or bool(bdtrc(right - 1, frames, share) > SIGNIFICANCE)


def warn_of_chance(who: str, answers: Ints, labels: Ints, *, start: float | None = None) -> list[str]:
    """A warning where ``who`` answers no better than chance (`near_chance`), else none.

    Parameters
    ----------
    who : str
        Whose answers they are.
    answers, labels : numpy.ndarray
        Classes, ``(frames,)``.
    start : float or None
        The accuracy on these frames of the float network that it was made from, which is better than chance: neither labels nor
        pixels are to blame then.
    """
    if not near_chance(answers, labels):
        return []
    counts, frames = np.bincount(labels), len(labels)
    share = counts.max() / frames
    # Where all right would not be enough either, the answers are not to blame.
    if share**frames > SIGNIFICANCE and (share < 1 or frames < _FEW):
        right = (answers == labels).sum()
        return [f"{who} is right on {right:,} of {frames:,} frames, too few to tell whether that is more than chance"]
    found = (
        f"{who} is right on {(answers == labels).mean():.1%} of {frames:,} frames, no better than always answering class "
        f"{counts.argmax()} ({share:.1%})"
    )
    if start is not None:
        return [f"{found}, and the float network on {start:.1%}: what was lost, conversion lost"]
    return [
        f"{found}: labels and the scale of pixels must be those that it was trained "
        "on, and the frames of several classes"
    ]


def other_scale(answer: Callable[[Floats], Ints], inputs: tuple[Floats, ...], labels: Ints) -> tuple[str, str, float] | None:
    """A scale of pixels on which a network is right more often than on pixels of 0 to 1, by more than luck.

    It is to be better on every one of ``inputs``, and on one by more than luck: frame by frame, those that become right are held
    against those that become wrong (a sign test).

    Parameters
    ----------
    answer : callable
        The network's answers ``(frames,)`` to float frames.
    inputs : tuple of numpy.ndarray
        The same frames in several forms, full scale 1.0.
    labels : numpy.ndarray
        Their classes.

    Returns
    -------
    tuple of str, str and float, or None
        The scale, the options that say it, and the accuracy on the first of ``inputs``, of the best one that passes; None where
        none does.
    """
    mean, deviation = float(inputs[0].mean()), float(inputs[0].std()) or 1.0
    scales = {
        ("0..255", "--scale 255"): (255.0, 0.0),
        ("-1..1", "--mean 0.5 --std 0.5"): (2.0, -1.0),
        ("mean 0 and standard deviation 1", f"--mean {mean:.4f} --std {deviation:.4f}"): (1 / deviation, -mean / deviation),
    }
    right = [answer(frames) == labels for frames in inputs]
    found = []
    for name, (factor, offset) in scales.items():
        others = [answer(frames * np.float32(factor) + np.float32(offset)) == labels for frames in inputs]
        pairs = list(zip(others, right, strict=True))
        better = all(other.sum() > own.sum() for other, own in pairs)
        if better and any(better_by_more_than_luck(other, own, _DOUBT / len(scales)) for other, own in pairs):
            found.append((float(others[0].mean()), *name))
    if not found:
        return None
    share, scale, options = max(found)
    return scale, options, share


def better_by_more_than_luck(
    other: npt.NDArray[np.bool_], own: npt.NDArray[np.bool_], significance: float = SIGNIFICANCE
) -> bool:
    """Whether one of two, given the frames ``(frames,)`` on which each is right, is better: a one-sided sign test.

    Parameters
    ----------
    other, own : numpy.ndarray
        Whether each is right; ``other`` may be the better one.
    significance : float
        Probability with which luck may be taken for more than luck.
    """
    gained, lost = int((other & ~own).sum()), int((own & ~other).sum())
    return bool(bdtrc(gained - 1, gained + lost, 0.5) < significance)
