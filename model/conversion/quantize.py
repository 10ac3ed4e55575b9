"""From a trained float network to the integer `model.network.Network`: thresholds folded away, fixed point, widths.

A spike of layer ``l`` stands for ``theta_l``, one of the input for the `value` of its coding. With ``f`` fractional bits a
weight becomes ``round(w * theta_before * 2**f / theta_l)``, a bias ``round(b * 2**f / theta_l)``, and the threshold ``2**f``:
every threshold is a power of two, and ``theta_l`` itself is gone from the hardware.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.conversion.bounds import Bounds
from model.conversion.coding import InputCoding
from model.conversion.projections import integer_projection, sums_of, with_neurons
from model.conversion.quantized_frames import run_images
from model.importers.float_network import ConversionError, FloatLayer, FloatNetwork, pool_of
from model.network import INPUT, MOST_COUNT_BITS, MOST_POTENTIAL_BITS, Layer, Network, Neurons
from model.rest import states_at_rest

__all__ = ["Settings", "count_at_end", "fit_widths", "quantize"]

_WEIGHT_BITS = 8
_HEADROOM = 2
"""Widths hold this many times the extremes seen in calibration."""

_SPARE = 1.25
"""The widest potential holds this many times the greatest sum of calibration frames."""

_ROOM = 4
"""The widest potential holds this many large activations, where it is known what one is: sums below zero may be as large."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to convert.

    Parameters
    ----------
    weight_bits : int or None
        Width of a weight; None: 8, and more where `searches_exactly` holds and the accuracy needs them.
    layer_weight_bits : tuple of (str, int)
        The same of layers of these names, where it is another one.
    layer_fraction_bits : tuple of (str, int)
        Bits of them behind the point, where 1 is the threshold, at the most; by default as many as there is room for.
    accuracy_budget : float
        Accuracy on the calibration data that may be lost against the float network on the same coded input, for fewer operations.
    threshold : float | None
        The paper's mode: this one threshold for all layers, weights as they are; None chooses thresholds.
    levels : float | None
        Thresholds that a large activation of a hidden layer is worth, the same in all of them; None searches.
    input_levels : int or None
        Spikes that a pixel fires at most; None: 1, and more where `searches_exactly` holds, no ``input_threshold`` is given and
        the accuracy needs them.
    input_threshold, input_step : int or None
        Pixels fire when greater than the threshold, and once more for each step above it. `convert` chooses what is None
        (`model.conversion.coding.choose_coding`); 51, the paper's, with one level.
    for_hardware : bool
        Refuse what hardware does not build.
    ungroup : bool
        Write grouped convolutions as ordinary ones, as folded machines walk them: with weights of 0.
    firing : str or None
        ``"immediate"`` or ``"deferred"`` (`model.network.Network`); None: deferred, except in the paper's mode.
    rest : bool or None
        Whether frames start from the state at rest, where that is not just the biases; None: except in the paper's mode.
    burst : int
        Spikes that an update may fire, 0 for any number; without meaning where neurons fire deferred.
    rounding : bool, tuple of str or None
        Whether biases are half a threshold higher, so that counts round activations to the nearest, not down: of all layers,
        or of those named. None where it makes a count the nearest, which is in deferred firing.
    channel_thresholds : bool
        Whether each channel has a threshold of its own, folded into weights (`model.conversion.channels`).
    """

    weight_bits: int | None = None
    layer_weight_bits: tuple[tuple[str, int], ...] = ()
    layer_fraction_bits: tuple[tuple[str, int], ...] = ()
    accuracy_budget: float = 0.005
    threshold: float | None = None
    levels: float | None = None
    input_levels: int | None = None
    input_threshold: int | None = None
    input_step: int | None = None
    for_hardware: bool = False
    ungroup: bool = False
    firing: str | None = None
    rest: bool | None = None
    burst: int = 1
    rounding: bool | tuple[str, ...] | None = None
    channel_thresholds: bool = False

    @property
    def deferred(self) -> bool:
        """Whether neurons fire only when a frame ends."""
        return self.threshold is None if self.firing is None else self.firing == "deferred"

    @property
    def searches_exactly(self) -> bool:
        """Whether the network is the quantized one, in which a search for the fewest accumulations is exact and fast."""
        return self.deferred and self.threshold is None and self.levels is None

    @property
    def bits(self) -> int:
        """Width of a weight."""
        return _WEIGHT_BITS if self.weight_bits is None else self.weight_bits

    def bits_of(self, layer: str) -> int:
        """Width of a weight of a layer of that name."""
        return dict(self.layer_weight_bits).get(layer, self.bits)

    @property
    def rests(self) -> bool:
        """Whether frames start from the state at rest."""
        return self.threshold is None if self.rest is None else self.rest

    @property
    def rounding_chosen(self) -> bool | tuple[str, ...]:
        """Of which layers biases are half a threshold higher: of all, of none, or of those named."""
        return self.deferred if self.rounding is None else self.rounding

    def rounds(self, layer: str) -> bool:
        """Whether the biases of a layer are half a threshold higher."""
        chosen = self.rounding_chosen
        return chosen if isinstance(chosen, bool) else layer in chosen

    @property
    def coding(self) -> InputCoding:
        """The coding of the input; where its limits are not given, evenly over full scale."""
        if self.input_levels in (None, 1):
            return InputCoding(InputCoding.first if self.input_threshold is None else self.input_threshold)
        assert self.input_levels is not None
        step = 255 // self.input_levels if self.input_step is None else self.input_step
        first = step // 2 if self.input_threshold is None else self.input_threshold
        if self.input_step is None:
            step = max(1, min(step, (254 - first) // (self.input_levels - 1)))
        if first + (self.input_levels - 1) * step >= 255:
            raise ConversionError(
                f"--input-levels {self.input_levels} must all be below 255, not the first at {first} and then every {step}: "
                "fewer of them, or another --input-threshold or --input-step"
            )
        return InputCoding(first, step, self.input_levels)


def quantize(
    float_network: FloatNetwork,
    thresholds: Sequence[float],
    settings: Settings,
    *,
    name: str,
    origin: str = "",
    large: Sequence[float] = (),
    reached: Callable[[], Mapping[str, float]] | None = None,
) -> Network:
    """The integer network for these thresholds, one per neuron layer, at full widths.

    Where large activations of all layers of neurons are given, weights have no more fractional bits than potentials have room
    for: of wide weights, whose sums are wider. ``reached`` gives the greatest sum of each layer on some frames, sign aside; it is
    asked where it is not certain that all sums fit.

    Raises
    ------
    ConversionError : where a weight or bias cannot be represented
    """
    layers: list[Layer] = []
    coding = settings.coding
    # What a count of each source stands for, and how far its counts can go.
    sources = {INPUT: _Source(coding.value, Bounds.of_input(float_network.input_shape.channels, coding.levels))}
    left = list(zip(thresholds, large or itertools.repeat(0.0), strict=bool(large)))
    for layer in float_network.layers:
        if layer.kind == "maxpool":
            layers.append(pool_of(layer, layer.source))
            sources[layer.name] = sources[layer.source]
        else:
            theta, most = left.pop(0)
            neurons, bounds = _neurons(float_network.path, layer, sources, theta, settings, most, reached)
            layers.append(neurons)
            sources[layer.name] = _Source(theta, bounds)
    return Network(
        name=name,
        input_shape=float_network.input_shape,
        layers=tuple(layers),
        input_threshold=coding.first,
        origin=origin,
        input_levels=coding.levels,
        input_step=coding.step,
        firing="deferred" if settings.deferred else "immediate",
        rest=settings.rests,
    )


@dataclass(frozen=True)
class _Source:
    """What a layer takes of another one: what a count stands for, and the bounds of the counts."""

    value: float
    counts: Bounds


def _neurons(
    path: Path,
    layer: FloatLayer,
    sources: Mapping[str, _Source],
    theta: float,
    settings: Settings,
    large: float,
    reached: Callable[[], Mapping[str, float]] | None,
) -> tuple[Neurons, Bounds]:
    """The layer in integers, and the bounds of its counts, from those of its sources; ``large`` is 0 where it is not known."""
    assert layer.bias is not None
    scaled = [taken.weights * (sources[taken.source].value / theta) for taken in layer.inputs if taken.weights is not None]
    bits = settings.bits_of(layer.name)
    most = (1 << bits - 1) - 1
    # Weights that are all 0 fit whatever the fraction.
    greatest = max(np.abs(weights).max() for weights in scaled)
    bits_left = np.log2(most / greatest) if greatest else np.inf
    room = MOST_POTENTIAL_BITS - 1 - np.log2(max(_ROOM * large / theta, 8))
    most_fraction = dict(settings.layer_fraction_bits).get(layer.name, MOST_POTENTIAL_BITS)
    f = int(np.clip(np.floor(min(bits_left, room)), 0, most_fraction))
    if bits_left < 0:
        raise ConversionError(
            f"{path}: layer {layer.name!r}: largest weight must be at most {most} thresholds, not "
            f"{greatest:.4g}; use more weight bits or a larger threshold"
        )
    while True:
        whole_weights = [np.rint(weights * (1 << f)).astype(np.int64) for weights in scaled]
        sums = sums_of(layer.inputs, whole_weights, {name: source.counts for name, source in sources.items()})
        bias = (layer.bias / theta + (0.5 if settings.rounds(layer.name) else 0)) * (1 << f)
        if layer.relu:
            bias = sums.held(bias, count_limit(layer.end, theta) << f)
        largest = np.abs(bias).max()
        limit = 1 << MOST_POTENTIAL_BITS - 1
        fits = reached is None or max((sums.greatest + bias).max(), -(sums.least + bias).min()) < limit
        if not fits and reached is not None:
            # Beyond the guard bit sums wrap, those far below zero to ones that fire.
            fits = _SPARE * reached()[layer.name] / theta * (1 << f) < limit
        if f == 0 or (fits and largest <= (limit >> 1) - 1):
            break
        f -= 1
    if largest >= limit:
        raise ConversionError(
            f"{path}: layer {layer.name!r}: largest bias must be less than {limit} thresholds, not "
            f"{largest:.4g}; use a larger threshold"
        )
    whole = np.rint(bias).astype(np.int64)
    first, *others = (integer_projection(taken, weights) for taken, weights in zip(layer.inputs, whole_weights, strict=True))
    found = with_neurons(
        first,
        name=layer.name,
        bias=whole,
        threshold_log2=f,
        activation="relu" if layer.relu else "identity",
        weight_bits=bits,
        potential_bits=MOST_POTENTIAL_BITS,
        count_bits=MOST_COUNT_BITS,
        burst=settings.burst,
        count_max=None if layer.end is None else count_at_end(layer.end, theta),
        joined=tuple(others),
    )
    return found, sums.counts(whole, 1 << f, relu=layer.relu, deferred=settings.deferred)


def count_at_end(end: float, theta: float) -> int:
    """The count at which an activation ends; thresholds are best chosen so that it is ``end`` exactly."""
    return max(1, min(round(end / theta), (1 << MOST_COUNT_BITS) - 1))


def count_limit(end: float | None, theta: float) -> int:
    """The greatest count of an activation that may have an end."""
    return (1 << MOST_COUNT_BITS) - 1 if end is None else count_at_end(end, theta)


def fit_widths(network: Network, images: npt.NDArray[np.uint8]) -> Network:
    """Widths that hold `_HEADROOM` times the extremes of the calibration frames; mean events per layer.

    A network that rests at its biases and counts of 0 is not made to start from its state at rest: it does anyway.
    """
    found = run_images(network, images)
    spikes = found.spikes.mean(axis=0)
    events = {INPUT: float(found.input_events.mean())}
    layers: list[Layer] = []
    for index, layer in enumerate(network.layers):
        events[layer.name] = float(spikes[index])
        layer = replace(layer, mean_events=round(sum(events[source] for source in layer.sources), 1))
        if isinstance(layer, Neurons):
            # The residual must also hold theta on both sides, a bias, and one more weight on top of what is stored.
            stored = max(-int(found.least_residual[index]), int(found.greatest_residual[index]))
            widest = max(stored, int(np.abs(layer.bias).max()), layer.theta)
            heaviest = max(int(np.abs(taken.weights).max()) for taken in layer.inputs)
            potential = (_HEADROOM * (widest + heaviest)).bit_length() + 1
            counted = max(1, _HEADROOM * int(found.greatest_count[index])).bit_length() + (0 if layer.relu else 1)
            if layer.count_max is not None:
                counted = layer.count_max.bit_length()
            layer = replace(
                layer,
                potential_bits=min(potential, MOST_POTENTIAL_BITS),
                count_bits=min(max(counted, 2), MOST_COUNT_BITS),
            )
        layers.append(layer)
    fitted = replace(network, layers=tuple(layers))
    return replace(fitted, rest=fitted.rest and any(state.count.any() for state in states_at_rest(fitted).values()))
