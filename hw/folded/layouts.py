"""What the parts of a folded machine pass to each other, wide enough for any of its layers."""

from amaranth.lib import data

from hw.aer import AddressEvent
from model.machine.folded_layout import Folded
from model.network import Shape

__all__ = ["Event", "Place", "QueuedEvent", "Spike", "Step"]

_MEMBERS = ("negative", "y", "x", "c")


class Event(data.StructLayout):
    """An event that any layer may take.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    negative : 1 bit
        1 where the sign is -1
    y, x, c : unsigned
        coordinates of the neuron that fired
    """

    def __init__(self, folded: Folded) -> None:
        events = [AddressEvent(each.source) for each in folded.inputs]
        super().__init__({name: max(event[name].width for event in events) for name in _MEMBERS})


class QueuedEvent(data.StructLayout):
    """An event of one layer, as its queue has it.

    Parameters
    ----------
    shape : Shape
        shape of the layer that fired
    more_bits : int
        width of how many spikes of a neuron follow the first; 0 where one comes at most

    Members
    -------
    negative, y, x, c : as of `Event`
    more : unsigned
        how many equal ones follow, where ``more_bits``
    """

    def __init__(self, shape: Shape, more_bits: int = 0) -> None:
        event = AddressEvent(shape)
        super().__init__({name: event[name].width for name in _MEMBERS} | ({"more": more_bits} if more_bits else {}))


class Spike(data.StructLayout):
    """A spike that leaves any layer, its max-pool included.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    negative, y, x, c : as of `Event`
    """

    def __init__(self, folded: Folded) -> None:
        event, step = Event(folded), Step(folded)
        super().__init__(
            {
                "negative": event["negative"].shape,
                "y": step["y"].shape,
                "x": step["x"].shape,
                "c": range(max(la.blocks * la.lanes for la in folded.layers)),
            }
        )


class Step(data.StructLayout):
    """A step of a walk: the block that it visits, and how many positions follow.

    Parameters
    ----------
    folded : Folded
        the machine's layers

    Members
    -------
    y, x : unsigned
        position
    block : unsigned
        block of channels
    weight : unsigned
        address of its block of weights
    rows, columns : unsigned
        rows after this one in the window, and columns after this one in the row
    """

    def __init__(self, folded: Folded) -> None:
        layers = folded.layers
        rows, columns = (max(len(pairs) for each in folded.inputs for pairs in each.axis(axis)) for axis in (0, 1))
        super().__init__(
            {
                "y": range(max(2, *(la.output.height for la in layers))),
                "x": range(max(2, *(la.output.width for la in layers))),
                "block": range(max(2, *(la.blocks for la in layers))),
                "weight": range(max(la.weight_base + la.weight_words for la in layers)),
                "rows": range(max(2, rows)),
                "columns": range(max(2, columns)),
            }
        )


class Place(data.StructLayout):
    """Where in memory a block lies.

    Parameters
    ----------
    folded : Folded
        the machine's layers and memories

    Members
    -------
    state : unsigned
        address of its states, in the memory that has them
    tag : unsigned
        address of its position's tag
    """

    def __init__(self, folded: Folded) -> None:
        super().__init__(
            {"state": range(max(2, folded.state_depth, folded.single_state_words)), "tag": range(folded.tag_depth)}
        )
