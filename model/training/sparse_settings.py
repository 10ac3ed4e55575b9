"""Settings of the fine-tuning of the paper's network for few events."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model.support.errors import BadInputError
from model.training.settings import check_whole

__all__ = ["SparseSettings"]


@dataclass(frozen=True)
class SparseSettings:
    """Everything that decides the outcome of a fine-tuning, beside the start, the data and the versions of the libraries.

    Parameters
    ----------
    seed : int
        Of the order of frames and of augmentation.
    epochs : int
        Passes over the training frames.
    batch_size : int
        Frames per step.
    learning_rate : float
        Peak of the one-cycle schedule of AdamW.
    event_price : float
        Loss for one spike per neuron, and for 2,500 K accumulations, a frame.
    moments : int
        At how many moments of the frame the network is looked at.
    last_epochs, last_moments : int
        After that, as many epochs with more moments, which is closer to events one at a time, and slower.
    weight_bits : int
        Width of the weights, which the forward pass rounds as conversion does.
    teacher_share : float
        Share of the loss that is distance from the start's answers on grey frames, 0 to 1.
    average_decay : float
        Decay per step of the moving average of the weights. The average is what is exported.
    keep_thresholds : bool
        Whether the start is for the threshold 1.0 already, as what comes out is; otherwise thresholds are chosen by the
        start's activations.
    average_start : bool
        Whether the outcome is the average of the start and the fine-tuned network, which generalizes better than either;
        needs ``keep_thresholds``.
    """

    seed: int = 1
    epochs: int = 16
    batch_size: int = 128
    learning_rate: float = 1e-3
    event_price: float = 1.3
    moments: int = 4
    last_epochs: int = 4
    last_moments: int = 10
    weight_bits: int = 8
    teacher_share: float = 0.5
    average_decay: float = 0.998
    keep_thresholds: bool = False
    average_start: bool = False

    def __post_init__(self) -> None:
        check_whole(self, {"seed": 0, "epochs": 1, "batch_size": 1, "moments": 1, "last_epochs": 0, "last_moments": 1})
        if not 2 <= self.weight_bits <= 16:
            raise BadInputError(f"weight_bits must be within 2..16, not {self.weight_bits!r}")
        if not 0 < self.learning_rate < math.inf:
            raise BadInputError(f"learning_rate must be more than 0, not {self.learning_rate!r}")
        if not 0 <= self.event_price < math.inf:
            raise BadInputError(f"event_price must be 0 or more, not {self.event_price!r}")
        if not 0 <= self.teacher_share <= 1:
            raise BadInputError(f"teacher_share must be from 0 to 1, not {self.teacher_share!r}")
        if not 0 <= self.average_decay < 1:
            raise BadInputError(f"average_decay must be at least 0 and less than 1, not {self.average_decay!r}")
        if self.average_start and not self.keep_thresholds:
            raise BadInputError("average_start must not be given without keep_thresholds")
