"""Address-event types: what every stream between components carries. Defined once, here.

An address travels as its coordinates ``(y, x, c)`` rather than as the flat number, so that no component ever
divides; the flat address ``(y * width + x) * channels + c`` exists in files, reports and host software only.
"""

from amaranth.hdl import Value, unsigned
from amaranth.lib import data, enum
from amaranth.utils import bits_for

from hw.parts.memory import stored_bits
from model.machine.plan import CorePlan
from model.network import Network, Shape

__all__ = ["AddressEvent", "HostEvent", "Kind", "SpikeGroup", "ends_frame", "is_barrier"]


class Kind(enum.Enum, shape=unsigned(1)):  # type: ignore[call-arg]
    """What a token in an event stream is."""

    SPIKE = 0
    """A signed spike."""
    END = 1
    """End of frame, in band: follows all spikes of its frame."""


class AddressEvent(data.StructLayout):
    """A token of an event stream of a layer.

    Parameters
    ----------
    shape : Shape
        Shape of the layer that fires.
    levels : int
        Levels of barriers among the events (`model.machine.barriers`).

    Members
    -------
    kind : `Kind`
        The other members are 0 where it is ``END``, but for ``negative`` and ``closes``.
    negative
        1 where the spike's sign is -1. Of an ``END``, 1 where it is a flush within the frame, which goes on after it.
    y, x, c
        Coordinates of the neuron.
    closes
        How many levels close behind it; where there are any. An ``END`` that closes some is a barrier alone and ends no frame.
    """

    def __init__(self, shape: Shape, levels: int = 0) -> None:
        self.neurons = shape
        super().__init__(
            {
                "kind": Kind,
                "negative": 1,
                **_coordinates(shape.height, shape.width, shape.channels),
                **_closes(levels),
            }
        )


class HostEvent(data.StructLayout):
    """A token that the host sends into a machine, or watches there.

    Parameters
    ----------
    network : Network
        Gives the streams and their widths.

    Members
    -------
    port
        Index of the stream: 0 is the network's input, ``i + 1`` the output of layer ``i``.
    kind, negative, y, x, c
        As in `AddressEvent`, wide enough for every layer.
    """

    def __init__(self, network: Network) -> None:
        shapes = (network.input_shape, *network.shapes)
        super().__init__(
            {
                "port": unsigned(bits_for(len(network.layers))),
                "kind": Kind,
                "negative": 1,
                **_coordinates(*(max(sizes) for sizes in zip(*shapes, strict=True))),
            }
        )


class SpikeGroup(data.StructLayout):
    """All spikes of some channels at one position.

    Parameters
    ----------
    shape : Shape
        Shape of the layer that fires.
    core : CorePlan
        How many channels a group has.
    more_bits : int
        Width of the spikes of a channel beyond its first; 0 where no neuron fires more than one at once.
    flushes : bool
        Whether there are flushes within a frame.
    levels : int
        As of `AddressEvent`.

    Attributes
    ----------
    channels : int
        Channels of a group.
    firsts : Sequence[int]
        The first channel of each part of the channels.

    Members
    -------
    kind : `Kind`
        Where it is ``END`` the other members but for ``flush`` and ``closes`` mean nothing.
    y, x
        Position.
    part
        Which part of the channels.
    plus, minus
        One bit per channel; never both.
    more
        Of each channel that fires, how many spikes follow its first one, all of the same sign; 0 of the others. Where there is
        any room for it.
    flush
        1 where an ``END`` is a flush within the frame, which goes on after it; where there are any.
    closes
        As of `AddressEvent`, behind all of its spikes.
    """

    def __init__(
        self, shape: Shape, core: CorePlan, more_bits: int = 0, *, flushes: bool = False, levels: int = 0
    ) -> None:
        self.neurons = shape
        self.more_bits = more_bits
        self.flushes = flushes
        self.channels = core.group_channels
        self.firsts = core.firsts(shape.channels)
        super().__init__(
            {
                "kind": Kind,
                "y": unsigned(bits_for(shape.height - 1)),
                "x": unsigned(bits_for(shape.width - 1)),
                "part": unsigned(bits_for(len(self.firsts) - 1)),
                "plus": unsigned(self.channels),
                "minus": unsigned(self.channels),
                **({"more": data.ArrayLayout(unsigned(more_bits), self.channels)} if more_bits else {}),
                **({"flush": 1} if flushes else {}),
                **_closes(levels),
            }
        )

    @property
    def stored_bits(self) -> int:
        """Bits of it that a memory keeps."""
        return stored_bits(self, {"y": self.neurons.height, "x": self.neurons.width, "part": len(self.firsts)})


def is_barrier(token: data.View) -> Value:
    """Whether ``token`` (`AddressEvent`, `SpikeGroup`), of a stream with barriers, is a barrier alone."""
    return (token.kind == Kind.END) & (token.closes != 0)


def ends_frame(network: Network, event: data.View) -> Value:
    """Whether ``event`` (`AddressEvent`, `HostEvent`) ends its frame: not where it is a flush within it."""
    is_end = event.kind == Kind.END
    return is_end & ~event.negative if network.flush_events else is_end


def _coordinates(height: int, width: int, channels: int) -> dict[str, object]:
    return {
        "y": unsigned(bits_for(height - 1)),
        "x": unsigned(bits_for(width - 1)),
        "c": unsigned(bits_for(channels - 1)),
    }


def _closes(levels: int) -> dict[str, object]:
    return {"closes": unsigned(bits_for(levels))} if levels else {}
