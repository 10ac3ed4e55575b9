"""A machine whose netlist is small, and its frames."""

from dataclasses import replace
from functools import cache

import numpy as np

from model.machine.named_plans import named_plan
from model.network import Network
from model.studies.random_network import drawn

FRAMES = 3

PLAN = "folded"


@cache
def network() -> Network:
    """One linear layer: on the shared core of an iCE40 its weights are in large RAM."""
    return replace(drawn("4x4x1: 3F", threshold_log2=6), name="small")


@cache
def images() -> np.ndarray:
    return np.where(np.random.default_rng(1).random((FRAMES, 4, 4, 1)) < 0.4, 255, 0).astype(np.uint8)


def plan(name=PLAN):
    return named_plan(network(), name)
