"""A router that gets nowhere: nextpnr goes on for ever."""

import re

from model.support.errors import DoesNotFitError

__all__ = ["PATIENCE", "RoutingError", "RoutingWatch"]

PATIENCE = 100
"""Iterations in which a tenth of the overused wires must be gone."""

_ITERATION = re.compile(r"iter=\d+ wires=\d+ overused=(\d+) ")


class RoutingError(DoesNotFitError):
    """A seed with which the placer finds no place for a cell, or the router no wires."""


class RoutingWatch:
    """Looks at the lines that nextpnr prints while its second router is at work, and raises where it gets nowhere."""

    def __init__(self) -> None:
        self._fewest: list[int] = []

    def look(self, line: str) -> None:
        """Look at one line.

        Raises
        ------
        RoutingError
            The overused wires are hardly fewer than `PATIENCE` iterations before.
        """
        found = _ITERATION.search(line)
        if not found:
            return
        self._fewest.append(min([int(found[1]), *self._fewest[-1:]]))
        if len(self._fewest) <= PATIENCE:
            return
        before, left = self._fewest[-1 - PATIENCE], self._fewest[-1]
        if 10 * left > 9 * before:
            raise RoutingError(
                f"the router gets nowhere: {left} wires are overused after {len(self._fewest)} iterations, as {before} were "
                f"{PATIENCE} iterations before; try fewer lanes, another --seed or more --seeds"
            )
