"""What decides the outcome of a fine-tuning, and what its epochs come to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.support.choices import FIRINGS
from model.support.errors import BadInputError
from model.training.settings import check_precision, check_whole

if TYPE_CHECKING:
    from model.conversion.coding import InputCoding
    from model.conversion.quantize import Settings

__all__ = ["NEAR", "EpochLine", "FinetuneSettings"]

NEAR = 1.01
"""How much of a budget of accumulations an epoch that is chosen may take."""

_LOST_TO_INPUT = 0.05
"""Accuracy budget by which the coding of the input is chosen; of what few levels lose at first, fine-tuning wins back most."""


@dataclass(frozen=True)
class FinetuneSettings:
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
        Peak of the one-cycle schedule of Adam, as a part of the size of a layer's weights.
    threshold_rate : float
        The same of the logarithms of thresholds.
    event_price : float
        Loss for one spike per neuron, and for as many accumulations as the float network has multiplications, a frame.
    accumulations : float or None
        A budget, per frame, on held-out frames: what is allowed falls evenly from what the start takes, in the first half of the
        epochs, and the price, at first ``event_price``, follows from epoch to epoch. None: the price stays.
    spike_weight : float
        What one spike per neuron counts for there; 0 where only accumulations have a price.
    firing : str
        ``"deferred"`` or ``"immediate"`` (`model.network.Network`).
    moments, last_moments : int
        Immediate: at how many moments of a frame the network is looked at, and in the last quarter of the epochs.
    weight_bits : int
        Width of the weights, which the forward pass rounds as conversion does.
    layer_weight_bits : tuple of (str, int)
        The same of layers of these names.
    layer_fraction_bits : tuple of (str, int)
        Of layers of these names, bits of a weight behind the point, where 1 is the threshold; larger weights are clipped. Of the
        others, as many as change the weights least.
    input_potential_bits : int or None
        Deferred: width of the potentials of layers that take the input alone, which no frame leaves; chosen with headroom where
        None.
    levels : float or None
        Thresholds that a large activation of a hidden layer is worth at the start; None: the fewest of 1, 2, 4 and so on with
        which the accuracy is within reach.
    output_levels : float
        The same of the output.
    keep_thresholds : bool
        Whether the start is for the threshold 1.0 already, as what comes out is; otherwise thresholds are chosen.
    input_levels, input_threshold, input_step : int or None
        Of the coding of the input, as in `model.conversion.quantize.Settings`; chosen as there where None, with a larger budget.
    teacher_share : float
        Share of the loss that is distance from the teacher's answers on frames as they are, 0 to 1.
    average_decay : float or None
        Decay per step of the moving average of the weights, which is what comes out; None: that of a quarter of all steps.
    augment : bool
        Whether frames are rotated, scaled, sheared and shifted a little, as suits digits.
    augment_share, last_augment_share : float
        Which share of them, in the first epoch and in the last; evenly from one to the other. The others come as they are.
    mirror : bool
        Whether frames are shifted by up to four pixels, and half of them mirrored from left to right, as suits photographs.
    cutout : int
        Height and width of the square of zeros that is put anywhere onto each frame. 0 puts none.
    rest : bool
        Deferred: whether frames start from the state at rest. Without it a layer's neurons start alike whatever their place,
        which takes less memory in hardware, and send what they have at rest in every frame.
    ungroup : bool
        Whether the integer network has groups of convolutions written as ordinary ones.
    precision : str
        What the layers compute in while training: ``"float32"``, or ``"bfloat16"``, faster on processors that have it. Weights,
        and what is said of held-out frames, are ``float32``.
    """

    seed: int = 1
    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 0.03
    threshold_rate: float = 0.005
    event_price: float = 0.05
    accumulations: float | None = None
    spike_weight: float = 1.0
    firing: str = "deferred"
    moments: int = 4
    last_moments: int = 10
    weight_bits: int = 8
    layer_weight_bits: tuple[tuple[str, int], ...] = ()
    layer_fraction_bits: tuple[tuple[str, int], ...] = ()
    input_potential_bits: int | None = None
    levels: float | None = None
    output_levels: float = 12.0
    keep_thresholds: bool = False
    input_levels: int | None = None
    input_threshold: int | None = None
    input_step: int | None = None
    teacher_share: float = 0.3
    average_decay: float | None = None
    augment: bool = False
    augment_share: float = 1.0
    last_augment_share: float = 1.0
    mirror: bool = False
    cutout: int = 0
    rest: bool = True
    ungroup: bool = False
    precision: str = "float32"

    def __post_init__(self) -> None:
        check_whole(
            self, {"seed": 0, "epochs": 1, "batch_size": 1, "weight_bits": 2, "moments": 1, "last_moments": 1, "cutout": 0}
        )
        check_precision(self.precision)
        if self.weight_bits > 16:
            raise BadInputError(f"weight_bits must be within 2..16, not {self.weight_bits!r}")
        for layer, bits in self.layer_weight_bits:
            if not 2 <= bits <= 16:
                raise BadInputError(f"layer_weight_bits of {layer!r} must be within 2..16, not {bits!r}")
        if self.input_potential_bits is not None:
            from model.network import MOST_POTENTIAL_BITS

            if not 4 <= self.input_potential_bits <= MOST_POTENTIAL_BITS:
                raise BadInputError(
                    f"input_potential_bits must be within 4..{MOST_POTENTIAL_BITS}, not {self.input_potential_bits!r}"
                )
            if self.firing != "deferred":
                raise BadInputError("input_potential_bits must not be given where firing is immediate")
        for layer, bits in self.layer_fraction_bits:
            width = self.conversion.bits_of(layer)
            if not 0 <= bits < width:
                raise BadInputError(f"layer_fraction_bits of {layer!r} must be within 0..{width - 1}, not {bits!r}")
        if self.firing not in FIRINGS:
            raise BadInputError(f"firing must be one of {', '.join(FIRINGS)}, not {self.firing!r}")
        for name, least, most, what in (
            ("learning_rate", 0, math.inf, "more than 0"),
            ("threshold_rate", 0, math.inf, "0 or more"),
            ("event_price", 0, math.inf, "0 or more"),
            ("accumulations", 0, math.inf, "more than 0"),
            ("spike_weight", 0, math.inf, "0 or more"),
            ("levels", 0.5, math.inf, "0.5 or more"),
            ("output_levels", 1, math.inf, "1 or more"),
            ("teacher_share", 0, 1, "from 0 to 1"),
            ("average_decay", 0, 1, "at least 0 and less than 1"),
            ("augment_share", 0, 1, "from 0 to 1"),
            ("last_augment_share", 0, 1, "from 0 to 1"),
        ):
            value = getattr(self, name)
            if value is None and name in ("levels", "accumulations", "average_decay"):
                continue
            outside = not least <= value <= most or math.isinf(value)
            zero = value == 0 and name in ("learning_rate", "accumulations")
            if outside or zero or (name == "average_decay" and value == 1):
                raise BadInputError(f"{name} must be {what}, not {value!r}")
        if self.accumulations is not None and self.event_price == 0:
            raise BadInputError(f"event_price must be more than 0 where accumulations is given, not {self.event_price!r}")
        for name in ("augment_share", "last_augment_share"):
            if not self.augment and getattr(self, name) != 1:
                raise BadInputError(f"{name} must not be given without augment")
        if self.augment and self.mirror:
            raise BadInputError("augment must not be given with mirror")

    def fraction_of(self, layer: str) -> int | None:
        """Bits behind the point of the weights of a layer of that name, where they are given."""
        return dict(self.layer_fraction_bits).get(layer)

    @property
    def conversion(self) -> Settings:
        """How the start is prepared."""
        from model.conversion.quantize import Settings

        return Settings(
            weight_bits=self.weight_bits,
            layer_weight_bits=self.layer_weight_bits,
            input_levels=self.input_levels,
            input_threshold=self.input_threshold,
            input_step=self.input_step,
            accuracy_budget=_LOST_TO_INPUT,
            channel_thresholds=not self.keep_thresholds,
        )

    def at_threshold_one(self, coding: InputCoding) -> Settings:
        """How the outcome is converted: the threshold 1.0 in every layer, weights as they are."""
        from model.conversion.quantize import Settings

        deferred = self.firing == "deferred"
        return Settings(
            weight_bits=self.weight_bits,
            layer_weight_bits=self.layer_weight_bits,
            layer_fraction_bits=self.layer_fraction_bits,
            threshold=1.0,
            firing=self.firing,
            rounding=deferred,
            rest=deferred and self.rest,
            input_levels=coding.levels,
            input_threshold=coding.first,
            input_step=coding.step if coding.levels > 1 else None,
        )


@dataclass(frozen=True)
class EpochLine:
    """What an epoch came to.

    Parameters
    ----------
    epoch : int
        Which, from 1; 0 is the start.
    loss : float or None
        Mean of the training frames; None at the start.
    held_out_loss : float
        Cross-entropy on held-out frames, of the averaged weights, and where there is no budget the price of events; the least is
        chosen.
    accuracy : float
        By spike count, on held-out frames, of the averaged weights.
    spikes_per_neuron, accumulations_per_frame : float
        Likewise.
    event_price : float
        In that epoch.
    """

    epoch: int
    loss: float | None
    held_out_loss: float
    accuracy: float
    spikes_per_neuron: float
    accumulations_per_frame: float
    event_price: float

    def __str__(self) -> str:
        loss = "" if self.loss is None else f"loss {self.loss:.4f}; "
        return (
            f"{loss}held-out frames: accuracy {self.accuracy:.2%} by count, {self.spikes_per_neuron:.4f} spikes "
            f"per neuron, {self.accumulations_per_frame:,.0f} accumulations"
        )
