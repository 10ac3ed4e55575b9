"""What the settings of all trainings share: how they are checked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from model.support.errors import BadInputError

__all__ = ["PRECISIONS", "as_asked", "check_numbers", "check_precision", "check_whole"]

T = TypeVar("T")

PRECISIONS = ("float32", "bfloat16")
"""What layers may compute in while training."""


def check_whole(settings: object, least: dict[str, int]) -> None:
    """Raise `TypeError` or `ValueError` where a field is not a whole number, or less than its least."""
    for name, low in least.items():
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an integer, not {value!r}")
        if value < low:
            raise BadInputError(f"{name} must be {low} or more, not {value!r}")


def check_precision(precision: str) -> None:
    """Raise `BadInputError` where that is nothing that a training computes in."""
    if precision not in PRECISIONS:
        raise BadInputError(f"precision must be {' or '.join(map(repr, PRECISIONS))}, not {precision!r}")


def check_numbers(
    settings: object, *, positive: Iterable[str] = (), not_negative: Iterable[str] = (), shares: Iterable[str] = ()
) -> None:
    """Raise `BadInputError` where a field is not more than 0, not 0 or more, or no share: at least 0, and less than 1."""
    for names, constraint, holds in (
        (positive, "more than 0", lambda value: 0 < value < math.inf),
        (not_negative, "0 or more", lambda value: 0 <= value < math.inf),
        (shares, "at least 0 and less than 1", lambda value: 0 <= value < 1),
    ):
        for name in names:
            value = getattr(settings, name)
            if not holds(value):
                raise BadInputError(f"{name} must be {constraint}, not {value!r}")


def as_asked(settings: T, seed: int, epochs: int | None) -> T:
    """Settings with a seed, and with a number of passes over the training frames where it is not to be their own."""
    return replace(settings, seed=seed, **({} if epochs is None else {"epochs": epochs}))  # type: ignore[type-var]
