"""Settings of the training on CIFAR-10, or on frames like its."""

from __future__ import annotations

from dataclasses import dataclass

from model.support.errors import BadInputError
from model.training.settings import check_numbers, check_precision, check_whole

__all__ = ["NAME", "CifarSettings"]

NAME = "cifar-resnet"

_MOST_LEVELS = 32


@dataclass(frozen=True)
class CifarSettings:
    """Everything that decides the outcome of a training, beside the data, the versions of the libraries and the threads.

    Parameters
    ----------
    seed : int
        Of the initial weights, the order of frames, and augmentation.
    epochs : int
        Passes over the training frames.
    batch_size : int
        Frames per step.
    learning_rate : float
        Peak of the schedule of stochastic gradient descent: it rises, then falls as half a cosine.
    weight_decay : float
        Of the convolutions' and the linear layer's weights.
    label_smoothing : float
        Share of the loss in which all classes count as much.
    cutout : int
        Height and width of the square of zeros that is put anywhere onto each frame. 0 puts none.
    average_decay : float
        Decay per step of the moving average of weights and statistics. The average is what is exported.
    widths, blocks : tuple of int
        Channels and residual blocks of each stage.
    stem : tuple of int
        Window and stride of the first convolution.
    counts : bool
        Whether activations are whole counts, as a spiking network that fires deferred has them, on frames in levels.
    input_levels : int
        How often a pixel fires at most, with ``counts``.
    event_price : float
        Loss for as many accumulations as the network has multiplications, with ``counts``.
    accumulations : float or None
        How many are asked for per frame, on average: the price follows them.
    teacher_share : float
        Share of the loss that is distance from the teachers' answers, where there are any.
    precision : str
        What convolutions compute in while training: ``"float32"``, or ``"bfloat16"``, faster on processors that have it.
        Weights, and all that comes after the training, are ``float32``.
    """

    seed: int = 1
    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 0.2
    weight_decay: float = 5e-4
    label_smoothing: float = 0.05
    cutout: int = 0
    average_decay: float = 0.998
    widths: tuple[int, ...] = (16, 32, 64)
    blocks: tuple[int, ...] = (0, 2, 2)
    stem: tuple[int, ...] = (3, 1)
    counts: bool = False
    input_levels: int = 8
    event_price: float = 0.05
    accumulations: float | None = None
    teacher_share: float = 0.5
    precision: str = "float32"

    def __post_init__(self) -> None:
        check_whole(self, {"seed": 0, "epochs": 1, "batch_size": 1, "cutout": 0})
        shares = ["label_smoothing", "average_decay", "teacher_share"]
        positive = ["learning_rate", *(["accumulations"] if self.accumulations is not None else [])]
        check_numbers(self, positive=positive, not_negative=["weight_decay", "event_price"], shares=shares)
        for name, least in (("widths", 1), ("blocks", 0)):
            values = getattr(self, name)
            if not values or min(values) < least:
                raise BadInputError(f"{name} must be numbers of {least} or more, not {values!r}")
        if len(self.widths) != len(self.blocks):
            raise BadInputError(f"blocks must be one number for each of the {len(self.widths)} widths, not {self.blocks!r}")
        if self.blocks[-1] == 0:
            raise BadInputError(f"blocks must be 1 or more in the last stage, not {self.blocks!r}")
        if len(self.stem) != 2 or not 1 <= self.stem[1] <= self.stem[0]:
            raise BadInputError(f"stem must be a window of 1 or more and a stride of 1 up to the window, not {self.stem!r}")
        if not 2 <= self.input_levels <= _MOST_LEVELS:
            raise BadInputError(f"input_levels must be within 2..{_MOST_LEVELS}, not {self.input_levels!r}")
        for name in ("accumulations", "event_price", "input_levels"):
            if not self.counts and getattr(self, name) != getattr(CifarSettings, name):
                raise BadInputError(f"{name} must not be given without counts")
        if self.accumulations is not None and self.event_price == 0:
            raise BadInputError(f"event_price must be more than 0 where accumulations is given, not {self.event_price!r}")
        check_precision(self.precision)
