"""The accuracy to expect of a network on frames like those of calibration, from the margins of its scores.

Of a thousand frames some ten are answered otherwise than by the float network: too few to choose by, as what is lost on them is a
matter of luck, and a search among a hundred networks finds the lucky one. Each frame says more than whether its answer is right:
its *margin*, the score of its class less the greatest other, is off from the float network's by some error. Errors of any frame
and margins of any other, taken together, say how often an error turns a margin, on other frames of the kind.
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.arrays import Bools, Floats
from model.conversion.chance import SIGNIFICANCE, better_by_more_than_luck
from model.golden import answers

__all__ = ["Margins"]


_UNSEEN = 2.0
"""What is lost on frames that the float network was not trained on, whose margins are smaller, for each that is lost on its own.

Measured on the 10,000 last training digits of MNIST, with networks that were trained without them."""


_MOST_ROOM = 4.0
_HALVINGS = 8


@dataclass(frozen=True)
class Margins:
    """What the float network says of calibration frames.

    Parameters
    ----------
    scores : Floats
        ``(frames, outputs)``.
    labels : numpy.ndarray
        Classes, ``(frames,)``.
    """

    scores: Floats
    labels: npt.NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """The float network's."""
        return float(self._right(self.scores).mean())

    def surpassed_by(self, scores: npt.NDArray[np.number], significance: float = SIGNIFICANCE) -> bool:
        """Whether a network with these scores of the first frames is right on more of them by more than luck.

        ``significance`` is the probability with which luck may be taken for more: little where these are the best of many.
        """
        return better_by_more_than_luck(self._right(scores), self._right(self.scores[: len(scores)]), significance)

    def errors(self, scores: npt.NDArray[np.number]) -> Floats:
        """By how much margins are off, ``(frames,)``.

        Parameters
        ----------
        scores : numpy.ndarray
            Another network's scores of the first frames, in any unit, ``(frames, outputs)``.
        """
        own, taken = scores.astype(np.float64), self.scores[: len(scores)]
        if own.shape[1] > 1:
            # What is added to all scores of a frame changes no margin.
            own, taken = (values - values.mean(axis=1, keepdims=True) for values in (own, taken))
        squares = float((own * own).sum())
        unit = float((own * taken).sum()) / squares if squares else 0.0
        return unit * _margins(own, self.labels[: len(own)]) - _margins(taken, self.labels[: len(own)])

    def size(self, errors: Floats) -> float:
        """That of errors, as a part of that of margins."""
        return float(np.sqrt((errors**2).mean())) / (float(np.abs(self._ordered).mean()) or 1.0)

    def expected(self, errors: Floats) -> float:
        """The accuracy to expect where margins are off by these."""
        own = _turned(self._ordered, np.zeros(1))
        return 1 - own - _UNSEEN * (_turned(self._ordered, errors) - own)

    def room(self, errors: Floats, wanted: float) -> float:
        """How many times as great errors may be for the accuracy to expect to be as it is wanted."""
        low, high = 0.0, _MOST_ROOM
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.expected(middle * errors) >= wanted else (low, middle)
        return low

    def _right(self, scores: npt.NDArray[np.number]) -> Bools:
        return answers(scores) == self.labels[: len(scores)]

    @functools.cached_property
    def _ordered(self) -> Floats:
        return np.sort(_margins(self.scores, self.labels))


def _turned(margins: Floats, errors: Floats) -> float:
    """How often an error turns a margin, of margins in ascending order.

    What comes to nothing is a tie, which goes to the lowest class: to either as often.
    """
    below = (np.searchsorted(margins, -errors, "left") + np.searchsorted(margins, -errors, "right")) / 2
    return float(below.mean()) / len(margins)


def _margins(scores: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    """How much greater the score of the class is than any other's; a single output is class 1 above 0."""
    if scores.shape[1] == 1:
        return scores[:, 0] * (2.0 * labels - 1)
    others = scores.copy()
    frames = np.arange(len(others))
    others[frames, labels] = -np.inf
    found: Floats = scores[frames, labels] - others.max(axis=1)
    return found
