"""What is around a component: what it may be given, and what is seen of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from hw.aer import HostEvent
from hw.machines import AnyMachine
from sim.mutation.aig import Graph

__all__ = ["NEVER_FULL", "Field", "Source", "Surroundings", "machine_surroundings"]

NEVER_FULL = (".projection.fifo", ".pool.fifo")
"""Ends of the paths of FIFOs that are written only where a credit is held for it: `sim.formal.walks` and `sim.formal.pools` prove
that none is written while it is full."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """Bits of a token that have a number below ``size``."""

    first: int
    width: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """A stream into a component, which keeps its token until it is taken.

    Parameters
    ----------
    name, width : str, int
        Of the stream, and its token's bits.
    fields : Sequence[Field]
        What is less than it could be.
    end : int | None
        A bit: all others are 0 where it is 1.
    """

    name: str
    width: int
    fields: Sequence[Field] = ()
    end: int | None = None

    def token(self, graph: Graph, bits: Sequence[int]) -> list[int]:
        """A token that may be, of any bits; of those of one that may be, the same."""
        found = list(bits)
        for each in self.fields:
            places = range(each.first, each.first + each.width)
            fits = graph.below([bits[place] for place in places], each.size)
            for place in places:
                found[place] = graph.both(found[place], fits)
        if self.end is not None:
            goes_on = bits[self.end] ^ 1
            found = [bit if place == self.end else graph.both(bit, goes_on) for place, bit in enumerate(found)]
        return found


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What is around a component.

    Parameters
    ----------
    seen : Sequence[tuple[Sequence[str], str]] | None
        What is seen of it: payloads, while all of these bits are 1, and the bits themselves. A payload may be empty. None where
        all outputs are, in every cycle.
    source : Source | None
        What it is fed by; what other inputs it has may have any value.
    restart : str
        An output that resets it in the next cycle; empty where none does.
    resets : bool
        Whether it may be reset in any cycle.
    """

    seen: Sequence[tuple[Sequence[str], str]] | None
    source: Source | None = None
    restart: str = ""
    resets: bool = False


def machine_surroundings(machine: AnyMachine) -> Surroundings:
    """Those of a machine in the bench of co-simulation: events of the network's input come in, all that is recorded is seen."""
    layout = HostEvent(machine.network)
    shape = machine.network.input_shape
    sizes = {"port": 1, "y": shape.height, "x": shape.width, "c": shape.channels}
    places = {name: layout[name] for name in (*sizes, "kind")}
    fields = [
        Field(first=place.offset, width=place.width, size=sizes[name]) for name, place in places.items() if name in sizes
    ]
    streams = ["result", *(["watched"] if machine.plan.watch else [])]
    return Surroundings(
        seen=[
            *(([f"trace_{trace.name}_strobe"], f"trace_{trace.name}_payload") for trace in machine.traces),
            *(([f"{name}__valid", f"{name}__ready"], f"{name}__payload") for name in streams),
            (["host__valid", "host__ready"], ""),
            ([], "saturations"),
        ],
        source=Source(name="host", width=layout.size, fields=fields, end=places["kind"].offset),
    )
