"""Random frames of input events."""

import math

import numpy as np

from model.events import Events, make_events
from model.network import Shape

__all__ = ["random_events", "random_frames"]


def random_frames(shape: Shape, seed: int, *, frames: int = 4, events: int = 40, near: bool = False) -> list[Events]:
    """Random signed events; ``near`` keeps them close together, so that windows overlap. One frame is empty."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(frames):
        if near:
            y, x = rng.integers(0, shape.height), rng.integers(0, shape.width)
            ys = np.clip(y + rng.integers(-1, 2, events), 0, shape.height - 1)
            xs = np.clip(x + rng.integers(-1, 2, events), 0, shape.width - 1)
            addresses = (ys * shape.width + xs) * shape.channels + rng.integers(0, shape.channels, events)
        else:
            addresses = rng.integers(0, shape.size, events)
        found.append(make_events(addresses, rng.choice([1, 1, 1, -1], events)))
    return [*found[:1], make_events([]), *found[1:]]


def random_events(shape: Shape, seed: int, most: int = 24) -> Events:
    """A frame of events of either sign."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, most + 1))
    return make_events(rng.integers(0, math.prod(shape), count), rng.choice([-1, 1, 1], count))
