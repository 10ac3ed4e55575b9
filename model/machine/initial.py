"""What a layer's neurons start a frame with, as hardware keeps it: of each channel a word a border class, not a position.

Which positions start alike is a matter of the border, and hence separable: rows are of few classes, and so are columns. Most
layers have one of each, the same words everywhere.
"""

from dataclasses import dataclass

import numpy as np

from model.arrays import Ints
from model.machine.borders import borders
from model.network import Network, Neurons
from model.rest import first_states

__all__ = ["InitialWords", "initial_words"]


@dataclass(frozen=True)
class InitialWords:
    """The states at the start of a frame of a layer's neurons.

    Parameters
    ----------
    row_classes, column_classes : tuple of int
        Of each row, of each column the number of its class; they count from 0 in the order in which they first come.
    residual, count : Ints
        ``R`` and ``Q`` of each channel, ``(classes of rows, classes of columns, channels)``.
    """

    row_classes: tuple[int, ...]
    column_classes: tuple[int, ...]
    residual: Ints
    count: Ints

    @property
    def several(self) -> bool:
        """Whether they differ by position."""
        return self.residual.shape[:2] != (1, 1)


def initial_words(network: Network, layer: Neurons) -> InitialWords:
    """Those of one layer of the network."""
    state = first_states(network)[layer.name]
    residual = state.potential - state.count * layer.theta
    alike = borders(np.concatenate([residual, state.count], axis=2))
    first = np.ix_(alike.rows, alike.columns)
    return InitialWords(tuple(alike.of_row), tuple(alike.of_column), residual[first], state.count[first])
