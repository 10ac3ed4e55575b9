"""Where a layer's neurons start a frame alike: classes of rows and of columns, so that hardware looks first words up by both."""

from collections.abc import Sequence
from typing import NamedTuple

from model.arrays import Ints
from model.rest import classes

__all__ = ["Borders", "borders"]


class Borders(NamedTuple):
    """Rows, and columns, that are alike.

    Parameters
    ----------
    of_row, of_column : Sequence[int]
        The class of each row, and of each column, numbered as they first come.
    rows, columns : Sequence[int]
        Of each class its first row, its first column.
    """

    of_row: Sequence[int]
    of_column: Sequence[int]
    rows: Sequence[int]
    columns: Sequence[int]

    @property
    def alike(self) -> bool:
        """Whether all positions are."""
        return len(self.rows) == len(self.columns) == 1


def borders(values: Ints) -> Borders:
    """Rows whose positions all have the same values are of one class; and so with columns.

    Parameters
    ----------
    values : Ints
        What each position starts a frame with, ``(height, width, ...)``: inside of what zeros pad, it mostly is the same.
    """
    (of_row, rows), (of_column, columns) = (classes(along) for along in (values, values.swapaxes(0, 1)))
    return Borders(of_row, of_column, rows, columns)
