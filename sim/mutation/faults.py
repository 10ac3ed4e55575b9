"""Faults made by hand in the sources of the hardware: what someone might get wrong, and no tool that turns bits over makes."""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

from hw.folded.answer import Answer
from hw.folded.queues import Queues
from hw.folded.tags import Tags
from hw.folded.walk import Walk
from hw.link.encoder import Encoder
from hw.link.link import Link
from hw.link.receiver import PacketReceiver
from hw.link.scan_encoder import ScanEncoder
from hw.link.sender import PacketSender
from hw.neuron import Comparison, Lane
from hw.parts.uart import UartReceiver
from hw.pipeline.merge import Merge, OrderedMerge
from hw.pipeline.pool import MaxPoolGroups
from hw.pipeline.projection import ProjectionCore
from hw.pipeline.readout import Readout
from hw.pipeline.router import Router
from hw.pipeline.serializer import Serializer
from hw.pipeline.state import FrameReset, StateBank
from sim.formal.faults import edited

__all__ = ["FAST_CLOCKS", "FAULTS", "LATE_CLOCK", "SourceFault", "planted"]


@dataclass(frozen=True, kw_only=True)
class SourceFault:
    """A fault in a component's source.

    Parameters
    ----------
    says : str
        What is wrong, in a few words.
    part, design : str
        The part of the machine that it is in, and the design that shows it (`sim.mutation.designs.DESIGNS`).
    component : type
        The component.
    right, wrong : str
        What stands in its source, once, and what takes its place.
    """

    says: str
    part: str
    design: str
    component: type
    right: str
    wrong: str

    @property
    def source(self) -> str:
        """``file:line`` of its place."""
        lines, first = inspect.getsourcelines(self.component)
        at = "".join(lines).index(self.right)
        module = sys.modules[self.component.__module__].__name__
        return f"{module.replace('.', '/')}.py:{first + ''.join(lines)[:at].count(chr(10))}"


@contextmanager
def planted(fault: SourceFault) -> Iterator[None]:
    """A context in which the component is built with the fault.

    Raises
    ------
    ValueError
        The component's source has no such place, or several.
    """
    component: Any = fault.component
    module = sys.modules[component.__module__]
    source = inspect.getsource(component)
    if (count := source.count(fault.right)) != 1:
        raise ValueError(f"{component.__name__} must have {fault.right!r} once, not {count} times")
    text = Path(str(module.__file__)).read_text()
    wrong = getattr(edited(module, text.replace(source, source.replace(fault.right, fault.wrong))), component.__name__)
    # Not the constructor: what it calls above it asks for its own class.
    names = [name for name, found in vars(wrong).items() if isinstance(found, FunctionType) and not name.startswith("__")]
    before = {name: vars(component)[name] for name in names}
    for name in names:
        setattr(component, name, vars(wrong)[name])
    try:
        yield
    finally:
        for name, found in before.items():
            setattr(component, name, found)


def _fault(part: str, design: str, says: str, component: type, right: str, wrong: str) -> SourceFault:
    return SourceFault(says=says, part=part, design=design, component=component, right=right, wrong=wrong)


FAULTS = (
    _fault("lane", "immediate", "-theta itself does not fire", Comparison, "lower_any=lower.any(),", "lower_any=1,"),
    _fault(
        "lane", "immediate", "a count goes up for a spike of either sign", Lane,
        "self.state.count + Cat(plus | minus, minus).as_signed()", "self.state.count + (plus | minus)",
    ),
    _fault(
        "lane", "immediate", "a residual that was held is not told", Lane,
        "self.overflow.eq(overflow)", "self.overflow.eq(0)",
    ),
    _fault(
        "state", "immediate", "an access two before is not forwarded", StateBank, "Mux(two[3], self.update, memory)", "memory"
    ),
    _fault(
        "state", "immediate", "a sweep ends a word early", FrameReset,
        "self.addr == self._depth - 1", "self.addr == self._depth - 2",
    ),
    _fault(
        "state", "immediate", "a generation that wraps starts no sweep", FrameReset,
        "[self.generation.eq(1), self.sweeping.eq(1)]", "[self.generation.eq(1)]",
    ),
    _fault(
        "projection", "immediate", "an event reaches one row only", ProjectionCore,
        "final_row.eq(row_steps - 1)", "final_row.eq(0)",
    ),
    _fault(
        "projection", "immediate", "a sweep clears nothing", ProjectionCore,
        "state.access.clear.eq(addresses.clear)", "state.access.clear.eq(0)",
    ),
    _fault("projection", "immediate", "a place of the FIFO is not used", ProjectionCore, "(credits >= 0)", "(credits > 0)"),
    _fault(
        "pool", "immediate", "a maximum never goes down", MaxPoolGroups,
        "down[channel].eq(lane.down & updating.group)", "down[channel].eq(0)",
    ),
    _fault(
        "pool", "immediate", "what is outside of all windows keeps its place in the FIFO", MaxPoolGroups,
        "+ told.blank + outside)", "+ told.blank)",
    ),
    _fault(
        "router", "immediate", "of copies that come at once one is lost", Router,
        "taken = taken | given.valid", "taken = 0 | ~fifo.w_rdy",
    ),
    _fault(
        "router", "immediate", "the end of a frame is not noticed", Router,
        "in_frame.eq(~(passes & is_end))", "in_frame.eq(1)",
    ),
    _fault(
        "router", "bursts", "the first channel is sent again in place of the next", Serializer,
        "next_of(rest, selected, rest, more)", "next_of(fires, selected, rest, more)",
    ),
    _fault(
        "router", "ordered merge", "the last input keeps its turn", OrderedMerge,
        "turn.eq(0 if is_last else number + 1)", "turn.eq(number if is_last else number + 1)",
    ),
    _fault(
        "router", "merge", "two spikes at once leave as one", Merge,
        "spikes[number] & ~spikes[:number].any() if number else spikes[number]", "spikes[number]",
    ),
    _fault(
        "readout", "immediate", "of equal counts the last one answers", Readout,
        "result.counts[0] > best", "result.counts[0] >= best",
    ),
    _fault(
        "readout", "immediate", "counts go on into the next frame", Readout,
        "counting.eq(counting.shape().const(start)), ", "",
    ),
    _fault(
        "folded", "folded", "the weights of a new row begin as those of a new column", Walk,
        "Mux(row_ends, reach.row_jump, ", "Mux(row_ends, reach.column_jump, ",
    ),
    _fault("folded", "folded", "an empty queue stays filled", Queues, ", filled[number].eq(0)]", "]"),
    _fault("folded", "folded", "a sweep marks words as of this frame", Tags, "Mux(self.sweep, 0, generation)", "generation"),
    _fault("folded", "folded", "of equal counts the last one answers", Answer, "(counts[0] > best)", "(counts[0] >= best)"),
    _fault(
        "encoder", "encoder", "a pixel at the threshold fires", Encoder,
        "d.pixel > self._network", "d.pixel >= self._network",
    ),
    _fault(
        "encoder", "encoder", "pixels as bright as each other leave from one place", Encoder,
        "d.place_write.data.eq(d.place_data + 1),\n                d.place_write.en.eq(1),",
        "d.place_write.data.eq(d.place_data),\n                d.place_write.en.eq(1),",
    ),
    _fault("encoder", "scan encoder", "the next brightness is that of the last darker pixel", ScanEncoder,
           "(pixel < level) & (pixel > below)", "pixel < level"),
    _fault("link", "link", "the checksum is not compared", PacketReceiver, "byte != checksum.crc", "byte != byte"),
    _fault(
        "link", "link", "a packet that stands still is waited for", PacketReceiver,
        "late.eq(lasts & (self.silence == self._timeout - 1))", "late.eq(0)",
    ),
    _fault(
        "link", "link", "a byte of the payload is offered before it has been read", PacketReceiver,
        'm.next = "READY"', 'm.next = "PASS"',
    ),
    _fault("link", "link", "a packet's sequence number is that of the one before", PacketSender,
           "sequence.eq(self.choice.payload.sequence),", "sequence.eq(sequence),"),
    _fault("link", "link", "a byte without a stop bit is taken", UartReceiver, "with m.If(line & (~self", "with m.If((~self"),
)  # fmt: skip
"""All of them; a job of a campaign simulates one."""

LATE_CLOCK = _fault(
    "readout", "immediate", "the clock starts shortly before it wraps", Readout,
    "now = Signal(CYCLES_WIDTH)", "now = Signal(CYCLES_WIDTH, init=2**CYCLES_WIDTH - 2000)",
)  # fmt: skip
"""No fault: what a frame took is the same. With it the upper bits of times are not always 0 in runs of some thousand cycles."""

FAST_CLOCKS = tuple(
    _fault(part, design, "the clock goes fast", component, right, right.replace("+ 1", f"+ {0x01234567}"))
    for part, design, component, right in (
        ("readout", "link", Readout, "now.eq(now + 1)"),
        ("folded", "folded link", Answer, "Mux(self.start, 0, cycles + 1)"),
        ("link", "link", Link, "cycles.eq(cycles + 1)"),
    )
)
"""No faults either, where nothing compares times with what they ought to be: times come to values of all their bits."""
