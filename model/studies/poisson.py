"""Integrate-and-fire neurons in time steps of 1 ms, fed by Poisson spike trains: what two of the rate codes run on.

In each step a pixel fires with a probability that its grey value sets; a neuron adds the weights of the spikes that arrive, fires
where its potential reaches the threshold of 1, and is set to 0 then. A spike passes all layers within its step. There is no
leak, no refractory time, and no bias; windows lie inside their source. Each frame draws from a random stream of its own, so
that neither its place among the frames nor the number of cores changes what it does.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.arrays import Floats, Images, Ints
from model.importers.float_network import ConversionError
from model.network import Shape
from model.support.compiled import njit

__all__ = ["PoissonCourse", "PoissonNetwork", "Stage", "average_pool", "convolution", "run_poisson", "settled", "spike_counts"]

Weights = npt.NDArray[np.float32]

_AT_ONCE = 64
"""Frames that a core runs before it tells so."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """A layer of neurons.

    Parameters
    ----------
    weights : Weights
        ``(input channels, height, width, output channels)``, columns from right to left, so that what a spike adds to a row of
        neurons lies side by side; of an average pool ``(1, window, window, 1)``, all the same.
    pools : bool
        Whether it is an average pool, whose windows do not overlap and which knows no channel but its own.
    shape : Shape
        Of its neurons.
    """

    weights: Weights
    pools: bool
    shape: Shape

    @property
    def own_weights(self) -> int:
        """Weights that are stored: shared ones once, those of a pool, which are a constant, not at all."""
        return 0 if self.pools else self.weights.size


@dataclass(frozen=True, kw_only=True, eq=False)
class PoissonNetwork:
    """A chain of stages.

    Parameters
    ----------
    input_shape : Shape
        Of a frame.
    stages : tuple of Stage
        From the input to the output.
    max_rate : float
        Spikes per second of a white pixel, up to 1000.
    seed : int
        Of the pixels' spikes.
    """

    input_shape: Shape
    stages: tuple[Stage, ...]
    max_rate: float = 1000.0
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.max_rate <= 1000:
            raise ConversionError(f"max_rate must be more than 0 and at most 1000 spikes per second, not {self.max_rate!r}")

    @property
    def neurons(self) -> int:
        """Pixels and neurons, those of the pools too."""
        return self.input_shape.size + sum(stage.shape.size for stage in self.stages)

    @property
    def neurons_without_pools(self) -> int:
        """Pixels and neurons of layers with weights."""
        return self.input_shape.size + sum(stage.shape.size for stage in self.stages if not stage.pools)

    @property
    def synapses(self) -> int:
        """Weights, each that a convolution shares once."""
        return sum(stage.own_weights for stage in self.stages)


@dataclass(frozen=True, kw_only=True, eq=False)
class PoissonCourse:
    """What frames did, step after step.

    Parameters
    ----------
    answers : npt.NDArray[np.uint8]
        The class with most spikes up to the end of each step, the first one on ties; ``(frames, steps)``.
    spikes : Ints
        Of the pixels and of each stage in each step, in all frames; ``(steps, stages + 1)``.
    accumulations : Ints
        Additions of a weight to a potential at each stage in each step, in all frames; ``(steps, stages)``.
    """

    answers: npt.NDArray[np.uint8]
    spikes: Ints
    accumulations: Ints

    def accuracies(self, labels: Ints) -> Floats:
        """Share of right answers after each step."""
        return np.asarray((self.answers == labels[:, np.newaxis]).mean(axis=0))

    def spikes_so_far(self) -> Floats:
        """Spikes of a frame up to the end of each step, of pixels and neurons together."""
        return self.spikes.sum(axis=1).cumsum() / len(self.answers)

    def accumulations_so_far(self) -> Floats:
        """Accumulations of a frame up to the end of each step."""
        return self.accumulations.sum(axis=1).cumsum() / len(self.answers)


def convolution(weights: npt.NDArray[np.floating], source: Shape) -> Stage:
    """The stage of a convolution whose weights are ``(output channels, input channels, height, width)``.

    A fully connected layer is one whose window is all of its source.
    """
    outputs, inputs, height, width = weights.shape
    if inputs != source.channels or height > source.height or width > source.width:
        raise ConversionError(f"weights must be of windows inside their source {tuple(source)}, not {weights.shape}")
    return Stage(
        weights=np.ascontiguousarray(weights.transpose(1, 2, 3, 0)[:, :, ::-1], np.float32),
        pools=False,
        shape=Shape(source.height - height + 1, source.width - width + 1, outputs),
    )


def average_pool(window: int, source: Shape) -> Stage:
    """The stage of an average pool, whose neurons have the threshold of all others."""
    if source.height % window or source.width % window:
        raise ConversionError(f"windows of {window} pixels must fill their source, not {tuple(source)}")
    return Stage(
        weights=np.full((1, window, window, 1), 1 / window**2, np.float32),
        pools=True,
        shape=Shape(source.height // window, source.width // window, source.channels),
    )


def run_poisson(
    network: PoissonNetwork, images: Images, steps: int, *, first: int = 0, done: Callable[[int], None] = lambda frames: None
) -> PoissonCourse:
    """Run frames for a number of time steps, on all cores.

    Parameters
    ----------
    network : PoissonNetwork
        The network; its last stage are the classes.
    images : Images
        uint8 frames ``(frames, height, width, channels)``.
    steps : int
        Steps per frame; what happens in one does not depend on how many follow.
    first : int
        Which frame of a data set the first one is: the number of its random stream.
    done : Callable[[int], None]
        Called with the number of frames finished.
    """
    parts = _each(network, images, steps, first, lambda found: found[1:], done)
    return PoissonCourse(
        answers=np.stack([answers for answers, _, _ in parts]),
        spikes=np.sum([spikes for _, spikes, _ in parts], axis=0),
        accumulations=np.sum([accumulations for _, _, accumulations in parts], axis=0),
    )


def spike_counts(
    network: PoissonNetwork, images: Images, steps: int, *, first: int = 0, done: Callable[[int], None] = lambda frames: None
) -> npt.NDArray[np.uint16]:
    """Spikes of each neuron of the last stage, ``(frames, neurons)``, after so many steps; otherwise as `run_poisson`."""
    return np.stack(_each(network, images, steps, first, lambda found: found[0], done, answers=False))


def settled(accuracy: Floats, wanted: float) -> int:
    """The number of steps from which on accuracy is never less than ``wanted``; until it is best, where it ends below."""
    short = np.flatnonzero(accuracy < wanted)
    if not len(short):
        return 1
    return int(accuracy.argmax()) + 1 if short[-1] == len(accuracy) - 1 else int(short[-1]) + 2


def _each(
    network: PoissonNetwork,
    images: Images,
    steps: int,
    first: int,
    kept: Callable[[Any], Any],
    done: Callable[[int], None],
    *,
    answers: bool = True,
) -> list[Any]:
    """What is ``kept`` of each frame."""
    if images.shape[1:] != tuple(network.input_shape):
        raise ConversionError(f"frames must have the network's shape {tuple(network.input_shape)}, not {images.shape[1:]}")
    if len(images) == 0:
        raise ConversionError("images must be at least one frame, not 0")
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)):
        raise TypeError(f"steps must be an integer, not {steps!r}")
    if not 1 <= steps < 1 << 16:
        raise ConversionError(f"steps must be from 1 to 65535, not {steps!r}")
    weights = tuple(stage.weights for stage in network.stages)
    pools = np.array([stage.pools for stage in network.stages])
    share = network.max_rate / 1000 / 255

    def run(frames: Sequence[int]) -> list[Any]:
        found = []
        for frame in frames:
            potentials = tuple(np.zeros(stage.shape, np.float32) for stage in network.stages)
            rng = np.random.default_rng((network.seed, first + frame))
            chance = images[frame].reshape(-1) * share
            found.append(kept(_run(rng, chance, network.input_shape, weights, pools, potentials, steps, answers)))
        return found

    batches = [range(at, min(at + _AT_ONCE, len(images))) for at in range(0, len(images), _AT_ONCE)]
    all_found: list[Any] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(run, batches):
            all_found += found
            done(len(found))
    return all_found


@njit(cache=True, nogil=True)
def _run(rng, chance, input_shape, weights, pools, potentials, steps, wanted):  # type: ignore[no-untyped-def]
    """Spikes of each last neuron; answers; spikes and accumulations by step and stage, of a frame."""
    stages = len(weights)
    counts = np.zeros(potentials[stages - 1].size, np.uint16)
    answers = np.zeros(steps if wanted else 0, np.uint8)
    spikes, operations = np.zeros((steps, stages + 1), np.int64), np.zeros((steps, stages), np.int64)
    most = max([chance.size] + [potential.size for potential in potentials])
    # Addresses of the spikes of a layer, and of the one before.
    fired, arrived = np.empty(most, np.int64), np.empty(most, np.int64)
    lit = np.flatnonzero(chance)
    for step in range(steps):
        number = 0
        for pixel in lit:
            if rng.random() < chance[pixel]:
                fired[number] = pixel
                number += 1
        spikes[step, 0] = number
        _, width, channels = input_shape
        for stage in range(stages):
            fired, arrived = arrived, fired
            potential = potentials[stage]
            if pools[stage]:
                operations[step, stage] = _add_pooled(potential, weights[stage], arrived[:number], width, channels)
            else:
                operations[step, stage] = _add_windows(potential, weights[stage], arrived[:number], width, channels)
            number = _fire(potential.reshape(-1), fired)
            spikes[step, stage + 1] = number
            _, width, channels = potential.shape
        for at in range(number):
            counts[fired[at]] += 1
        if wanted:
            answers[step] = counts.argmax()
    return counts, answers, spikes, operations


@njit(cache=True, nogil=True)
def _add_windows(potential, weights, arrived, source_width, source_channels):  # type: ignore[no-untyped-def]
    height, width, channels = potential.shape
    _, tall, wide, _ = weights.shape
    rows = potential.reshape(height, width * channels)
    taps = weights.reshape(source_channels, tall, wide * channels)
    operations = 0
    for address in arrived:
        position, c = divmod(address, source_channels)
        y, x = divmod(position, source_width)
        # The columns that have x in their window, the first and what is after the last.
        first, after = max(x - wide + 1, 0), min(x + 1, width)
        skipped = (first - (x - wide + 1)) * channels
        start, number = first * channels, (after - first) * channels
        for row in range(max(y - tall + 1, 0), min(y + 1, height)):
            # Slices, as the compiler adds eight numbers at once only where it sees that both begin at 0.
            target, added = rows[row, start : start + number], taps[c, y - row, skipped : skipped + number]
            for at in range(number):
                target[at] += added[at]
            operations += number
    return operations


@njit(cache=True, nogil=True)
def _add_pooled(potential, weights, arrived, source_width, source_channels):  # type: ignore[no-untyped-def]
    window, weight = weights.shape[1], weights[0, 0, 0, 0]
    for address in arrived:
        position, c = divmod(address, source_channels)
        y, x = divmod(position, source_width)
        potential[y // window, x // window, c] += weight
    return len(arrived)


@njit(cache=True, nogil=True)
def _fire(potential, fired):  # type: ignore[no-untyped-def]
    """Set to 0 what reaches the threshold; its addresses go to ``fired``, their number is returned."""
    number = 0
    for neuron in range(len(potential)):
        if potential[neuron] >= 1.0:
            potential[neuron] = 0.0
            fired[number] = neuron
            number += 1
    return number
