"""What every machine shows, of whatever architecture: its members with their layouts and widths, and its traces."""

from dataclasses import dataclass

from amaranth.hdl import Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.aer import AddressEvent, HostEvent, SpikeGroup
from hw.parts.single_port import PART_BITS, PARTS
from model.machine.folded_layout import SINGLE_BITS, SINGLE_WORDS
from model.machine.limits import SATURATIONS_WIDTH
from model.machine.plan import Plan
from model.machine.stages import count_bits
from model.machine.stored_state import StoredWidths
from model.network import Network, Neurons

__all__ = [
    "CYCLES_WIDTH",
    "PASSES_WIDTH",
    "Result",
    "StatePort",
    "Trace",
    "WeightPort",
    "known_place",
    "machine_members",
]

CYCLES_WIDTH = 32
"""Width of the cycle counter; it wraps around."""

PASSES_WIDTH = 32
"""Width of the count of passes of the weights' check; it wraps around."""


class Result(data.StructLayout):
    """The answer to a frame.

    Parameters
    ----------
    network : Network
        gives the outputs, and how high they can count
    clips : bool
        whether more spikes can come than the output layer fires, as where the host sends some in its place

    Members
    -------
    answer : range(classes)
        class with the most spikes, lowest index on ties; of a single output, whether its count is above 0
    cycles : unsigned(CYCLES_WIDTH)
        from the frame's first token offered to a core to the answer, modulo ``2 ** CYCLES_WIDTH``
    counts : array of signed
        signed spike count of each output; it stops at its ends
    clipped : 1 bit
        1 where a count had to stop there, where it can
    """

    def __init__(self, network: Network, *, clips: bool = False) -> None:
        super().__init__(
            {
                "answer": range(network.classes),
                "cycles": unsigned(CYCLES_WIDTH),
                "counts": data.ArrayLayout(signed(count_bits(network, network.output.name) + 1), network.outputs),
                **({"clipped": 1} if clips else {}),
            }
        )


class StatePort(wiring.Signature):
    """How the host reads states, as its link sees it.

    Parameters
    ----------
    network : Network
        gives the widths

    Members
    -------
    ask : Out, 1 bit
        1 from the question until its answer has been used
    place : Out, HostEvent
        the neuron: coordinates, and the port of its layer; constant while ``ask``
    found : In, 1 bit
        1 where ``state`` and ``known`` are valid; the machine is at rest then
    known : In, 1 bit
        whether there is such a neuron
    state : In, struct
        of the neuron: its residual, its count, and 1 where both are those before the spike of its last update
        (`hw.neuron.NeuronState`; a folded machine settles at once, and has 0); of a neuron without an event in this frame, the
        initial state. In a network that fires deferred, both as they stand, the residual with a bit more
        (`hw.neuron.DeferredState`), and 0
    """

    def __init__(self, network: Network) -> None:
        widths = StoredWidths.of([layer for layer in network.layers if isinstance(layer, Neurons)])
        super().__init__(
            {
                "ask": Out(1),
                "place": Out(HostEvent(network)),
                "found": In(1),
                "known": In(1),
                "state": In(
                    data.StructLayout(
                        {
                            # What is only added up has a bit more, for what it wraps around.
                            "summed": signed(widths.potential_bits + network.deferred),
                            "count": signed(widths.count_bits + (not widths.signed)),
                            "updated": 1,
                        }
                    )
                ),
            }
        )


def known_place(network: Network, layer: Neurons, place: Value) -> Value:
    """Whether ``place`` (`HostEvent`) is a neuron of ``layer``."""
    shape = network.shape_of(layer.name)
    within = place.port == network.layers.index(layer) + 1
    for coordinate, size in ((place.y, shape.height), (place.x, shape.width), (place.c, shape.channels)):
        within &= coordinate < size
    return within


class WeightPort(wiring.Signature):
    """How weights get into the memory with one port, as the host link sees it.

    Members
    -------
    idle : In, 1 bit
        1 where the machine is between two frames and takes what follows
    en : Out, 1 bit
        write a part of a word
    addr : Out, range(SINGLE_WORDS)
        the word
    part : Out, range(PARTS)
        which part of it
    data : Out, PART_BITS bits
        what is written there
    check : Out, 1 bit
        1 to have all weights read and their signature taken
    found : In, SINGLE_BITS bits
        the signature
    loaded : In, 1 bit
        1 since the signature was right; 0 again when a word is written. Without it the machine takes no frame.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "idle": In(1),
                "en": Out(1),
                "addr": Out(range(SINGLE_WORDS)),
                "part": Out(range(PARTS)),
                "data": Out(PART_BITS),
                "check": Out(1),
                "found": In(SINGLE_BITS),
                "loaded": In(1),
            }
        )


@dataclass(frozen=True)
class Trace:
    """A place in the machine where what passes can be seen: the top's ``trace_NAME_strobe`` and ``trace_NAME_payload``.

    Parameters
    ----------
    name : str
        name of the trace
    layer : str
        layer whose spikes pass, or ``"input"``
    form : str
        ``"groups"`` (payload `SpikeGroup`) or ``"events"`` (payload `AddressEvent`)
    layout : AddressEvent or SpikeGroup
        layout of the payload
    """

    name: str
    layer: str
    form: str
    layout: AddressEvent | SpikeGroup


def machine_members(network: Network, plan: Plan) -> "dict[str, In | Out]":
    """The members of every machine.

    host : In, stream of HostEvent
        the frames
    result : Out, stream of Result
        an answer a frame
    saturations : Out, array of unsigned(SATURATIONS_WIDTH)
        of each neuron layer, input events in which something saturated, since reset
    watched : Out, stream of HostEvent
        copies of what passes on the watched links, where ``plan.watch``
    watch : In, a bit a port
        mask of watched ports, where ``plan.watch``
    states : In, StatePort
        where ``plan.states``
    weight_passes : Out, unsigned(PASSES_WIDTH)
        how often all weights have been read and compared since reset, where ``plan.weight_check``
    weights_differ : Out, a bit a neuron layer
        1 since a pass found other weights of that layer than the network's, where ``plan.weight_check``
    """
    neuron_layers = sum(isinstance(layer, Neurons) for layer in network.layers)
    members: dict[str, In | Out] = {
        "host": In(stream.Signature(HostEvent(network))),
        "result": Out(stream.Signature(Result(network, clips=plan.inject))),
        "saturations": Out(data.ArrayLayout(unsigned(SATURATIONS_WIDTH), neuron_layers)),
    }
    if plan.watch:
        members["watched"] = Out(stream.Signature(HostEvent(network)))
        members["watch"] = In(len(network.layers) + 1)
    if plan.states:
        members["states"] = In(StatePort(network))
    if plan.weight_check:
        members |= {"weight_passes": Out(PASSES_WIDTH), "weights_differ": Out(neuron_layers)}
    return members
