"""What a proof is written in: a component, any inputs, and what must hold of it in every cycle."""

import sys
from collections.abc import Callable
from types import FrameType, SimpleNamespace
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, ClockDomain, Cover, Module, Signal, Value

__all__ = ["Bench", "called", "elaborated", "kept"]


def called(function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, SimpleNamespace]:
    """What a function gives, and its variables at its end: signals that only it knows."""
    inside: dict[str, Any] = {}
    code = getattr(function, "__func__", function).__code__

    def look(frame: FrameType, event: str, _: object) -> None:
        if event == "return" and frame.f_code is code:
            inside.update(frame.f_locals)

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        given = function(*arguments, **options)
    finally:
        sys.setprofile(before)
    return given, SimpleNamespace(**inside)


def kept(component: Any, name: str) -> list[SimpleNamespace]:
    """The variables of a component's method, each time that it has run."""
    found: list[SimpleNamespace] = []
    method = getattr(component, name)

    def calls(*arguments: Any, **options: Any) -> Any:
        given, inside = called(method, *arguments, **options)
        found.append(inside)
        return given

    setattr(component, name, calls)
    return found


def elaborated(component: Any) -> SimpleNamespace:
    """Elaborate a component now; gives what is inside of it, by the names that its ``elaborate`` gives to its variables."""
    module, inside = called(component.elaborate, None)
    component.elaborate = lambda platform: module
    return inside


class Bench:
    """A module under proof.

    There is no reset: registers start with their initial values.

    Parameters
    ----------
    lemmas : bool
        Whether what is said of the inside of a component is asserted as well. An induction needs it. A fault has to be found by
        what is said of the outside alone.

    Attributes
    ----------
    m : Module
        Holds the components and the registers of the specification.
    asserts, covers : int
        How many there are.
    """

    def __init__(self, *, lemmas: bool = True) -> None:
        self._lemmas = lemmas
        self.m = Module()
        self.m.domains.sync = domain = ClockDomain(reset_less=True)
        self._ports: list[Value] = [domain.clk]
        self.asserts = self.covers = 0
        self.started = Signal(name="started")
        """0 in the first cycle only."""
        self.m.d.sync += self.started.eq(1)

    def add(self, name: str, component: Any) -> SimpleNamespace:
        """Add a component; gives what is inside of it, by the names that its ``elaborate`` gives to its variables."""
        inside = elaborated(component)
        self.m.submodules[name] = component
        return inside

    def any(self, shape: Any, name: str) -> Any:
        """A signal that may have any value in any cycle."""
        signal = Signal(shape, name=name)
        self._ports.append(Value.cast(signal))
        return signal

    def constant(self, shape: Any, name: str) -> Any:
        """A signal that may have any value, the same in all cycles."""
        value, kept = self.any(shape, name), Signal(shape, name=f"{name}_kept")
        self.m.d.sync += kept.eq(value)
        self.assume(~self.started | (Value.cast(value) == Value.cast(kept)))
        return value

    def source(self, taken: Any, name: str = "taken") -> None:
        """Offer a component's stream any tokens at any time; one may be withdrawn, or become another, while it waits."""
        payload = Value.cast(taken.payload)
        self.m.d.comb += [taken.valid.eq(self.any(1, f"{name}_valid")), payload.eq(self.any(len(payload), f"{name}_payload"))]

    def sink(self, given: Any, name: str = "given") -> None:
        """Take tokens of a component's stream at any time."""
        self.m.d.comb += given.ready.eq(self.any(1, f"{name}_ready"))

    def before(self, value: Any, name: str) -> Signal:
        """What ``value`` was in the cycle before; 0 in the first one."""
        kept = Signal(Value.cast(value).shape(), name=f"{name}_before")
        self.m.d.sync += kept.eq(value)
        return kept

    def assume(self, condition: Any) -> None:
        """Of inputs: what they keep to."""
        self.m.d.comb += Assume(_bit(condition))

    def holds(self, condition: Any, *, src_loc_at: int = 0) -> None:
        """What is to be proved."""
        self.asserts += 1
        self.m.d.comb += Assert(_bit(condition), src_loc_at=1 + src_loc_at)

    def lemma(self, condition: Any) -> None:
        """What holds of the inside: proved with the rest, and needed for its induction."""
        if self._lemmas:
            self.holds(condition, src_loc_at=1)

    def reaches(self, condition: Any) -> None:
        """What must be possible, so that nothing is proved of what never happens."""
        self.covers += 1
        self.m.d.comb += Cover(_bit(condition), src_loc_at=1)

    def rtlil(self) -> str:
        """The module as RTLIL, called ``top``."""
        return str(rtlil.convert(self.m, name="top", ports=self._ports))


def _bit(condition: Any) -> Value:
    """The condition, where it is a bit: the complement of a wider one would hold whatever its lowest bit says."""
    value = Value.cast(condition)
    if len(value) != 1:
        raise ValueError(f"a condition must be a bit, not {len(value)} wide: {value!r}")
    return value
