"""A small machine that bits are flipped in, compiled once."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from model.encode import encode
from model.machine.named_plans import named_plan
from model.network import Network
from model.studies.random_network import drawn
from sim.cosimulation import CACHE
from sim.seu.machine import OpenMachine

FRAMES = 8


@cache
def network() -> Network:
    """A convolution with a pool, and a linear layer; biases below thresholds, so that no weight is in an initial word."""
    found = replace(drawn("6x6x1: 2C3 P2 4F", threshold_log2=6), name="small")
    layers = tuple(layer if not hasattr(layer, "bias") else replace(layer, bias=layer.bias % 64) for layer in found.layers)
    return replace(found, layers=layers)


@cache
def images() -> np.ndarray:
    return np.where(np.random.default_rng(1).random((FRAMES, 6, 6, 1)) < 0.4, 255, 0).astype(np.uint8)


def machine(folder: Path) -> OpenMachine:
    """The machine with one lane a core, and its frames."""
    found = network()
    frames = [encode(found, image) for image in images()]
    return OpenMachine(found, named_plan(found, "minimal"), frames, cache=CACHE, folder=folder)
