"""What teachers say of frames, and how far a network's answers are from it (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from model.importers.float_network import FloatNetwork
from model.training.quantized_layers import float_scores

__all__ = ["by_class", "distance", "taught"]

_SOFTENED = 2.0
"""What scores are divided by where the teachers' are learned."""


@torch.no_grad()
def taught(teachers: Sequence[FloatNetwork], pixels: Tensor) -> Tensor:
    """What the teachers say of frames, as probabilities of the classes, their mean.

    Parameters
    ----------
    teachers : sequence of FloatNetwork
        One or more.
    pixels : torch.Tensor
        Whole, of full scale 255, ``(frames, channels, height, width)``.
    """
    scores = [by_class(float_scores(teacher, pixels)).float() for teacher in teachers]
    return torch.stack([functional.softmax(each / _SOFTENED, dim=1) for each in scores]).mean(dim=0)


def distance(scores: Tensor, wanted: Tensor) -> Tensor:
    """How far scores are from what teachers say: a loss, in the units of a cross-entropy."""
    logs = functional.log_softmax(scores / _SOFTENED, dim=1)
    return _SOFTENED**2 * functional.kl_div(logs, wanted, reduction="batchmean")


def by_class(scores: Tensor) -> Tensor:
    """Scores of each class; a single one speaks for class 1 against 0."""
    return torch.cat([torch.zeros_like(scores), scores], dim=1) if scores.shape[1] == 1 else scores
