"""What the conversions that this project is measured against share: a chain of stages, and runs of frames on all cores."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from model.arrays import Images
from model.importers.float_network import ConversionError
from model.network import Shape
from model.studies.synapses import NeuronStage, PoolStage

__all__ = ["Chain", "run_in_batches"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A network of spiking neurons.

    Parameters
    ----------
    input_shape : Shape
        Of a frame.
    stages : tuple[NeuronStage | PoolStage, ...]
        A chain, normalized.
    scales : tuple[float, ...]
        Of each stage that is no pool, the float activation that 1 stands for.
    """

    input_shape: Shape
    stages: tuple[NeuronStage | PoolStage, ...]
    scales: tuple[float, ...]

    @property
    def neurons(self) -> int:
        """Number of neurons; pools have none."""
        return sum(len(stage.bias) for stage in self.stages if isinstance(stage, NeuronStage))


def run_in_batches(network: Chain, images: Images, size: int, run: Callable[[Images], T], done: Callable[[int], None]) -> T:
    """Run frames on all cores, ``size`` at once.

    Parameters
    ----------
    network : Chain
        The network.
    images : Images
        uint8 frames ``(frames, height, width, channels)``.
    size : int
        Frames that a core runs at once.
    run : callable
        Runs a batch; its result is a dataclass of arrays, each of the batch's frames along its first axis.
    done : callable
        Called with the number of frames finished.

    Returns
    -------
    T
        The batches' results, put together.
    """
    if images.shape[1:] != tuple(network.input_shape):
        raise ConversionError(f"frames must have the network's shape {tuple(network.input_shape)}, not {images.shape[1:]}")
    if len(images) == 0:
        raise ValueError("images must be at least one frame, not 0")
    batches = [images[at : at + size] for at in range(0, len(images), size)]
    found: list[Any] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch, result in zip(batches, pool.map(run, batches), strict=True):
            found.append(result)
            done(len(batch))
    return type(found[0])(**{name: np.concatenate([vars(each)[name] for each in found]) for name in vars(found[0])})  # type: ignore[no-any-return]
