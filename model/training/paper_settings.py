"""Settings of the training of the paper's network."""

from __future__ import annotations

from dataclasses import dataclass

from model.support.errors import BadInputError
from model.training.settings import check_numbers, check_whole

__all__ = ["NAME", "TrainSettings"]

NAME = "mnist-paper"


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides the outcome of a training, beside the data and the versions of the libraries.

    Parameters
    ----------
    seed : int
        Of the initial weights, the order of frames, augmentation and dropout.
    epochs : int
        Passes over the training frames.
    batch_size : int
        Frames per step.
    learning_rate : float
        Peak of the one-cycle schedule of AdamW.
    weight_decay : float
        Of AdamW; it keeps outliers out of the weights, which one scale per layer has to cover later.
    dropout : float
        Share of values dropped before each linear layer. As in the paper.
    binary_share : float
        Share of training frames shown as 1-bit; the others are grey.
    average_decay : float
        Decay per step of the moving average of the weights. The average is what is exported.
    """

    seed: int = 1
    epochs: int = 60
    batch_size: int = 128
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    dropout: float = 0.5
    binary_share: float = 0.7
    average_decay: float = 0.998

    def __post_init__(self) -> None:
        check_whole(self, {"seed": 0, "epochs": 1, "batch_size": 1})
        check_numbers(self, positive=["learning_rate"], not_negative=["weight_decay"], shares=["dropout", "average_decay"])
        if not 0 <= self.binary_share <= 1:
            raise BadInputError(f"binary_share must be from 0 to 1, not {self.binary_share!r}")
