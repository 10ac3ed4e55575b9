"""Tiny components, and mutants of them."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from sim.mutation import netlists
from sim.mutation.netlists import Mutant


class Selected(wiring.Component):
    """Gives ``a`` by a way around ``b``, which does not matter, at once and a cycle later."""

    def __init__(self):
        super().__init__({"a": In(2), "b": In(2), "now": Out(2), "later": Out(2)})

    def elaborate(self, platform):
        m = Module()
        kept_a, kept_b = Signal(2), Signal(2)
        m.d.sync += [kept_a.eq(self.a), kept_b.eq(self.a ^ self.b)]
        m.d.comb += [
            self.now.eq((self.a & self.b) | (self.a & ~self.b)),
            self.later.eq((kept_a & kept_b) | (kept_a & ~kept_b)),
        ]
        return m


class Counted(wiring.Component):
    """Counts from 0 to 9, and tells of a count that never is."""

    def __init__(self):
        super().__init__({"step": In(1), "never": Out(1), "count": Out(4)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.never.eq(self.count[2] & self.count[3])
        with m.If(self.step):
            m.d.sync += self.count.eq(Mux(self.count == 9, 0, self.count + 1))
        return m


class Twice(wiring.Component):
    """Looks at each token for two cycles, and tells of one above 4, and of one that changed meanwhile."""

    def __init__(self):
        super().__init__({"given": In(stream.Signature(unsigned(3))), "above": Out(1), "changed": Out(1)})

    def elaborate(self, platform):
        m = Module()
        before, second = Signal(3), Signal()
        m.d.sync += [before.eq(self.given.payload), second.eq(self.given.valid & ~second)]
        m.d.comb += [
            self.given.ready.eq(second),
            self.above.eq(self.given.payload[2] & self.given.payload[0]),
            self.changed.eq(second & (self.given.payload != before)),
        ]
        return m


def mutant(prepared, kind, port, mode, bit=0, number=0, module="top"):
    """A mutant of the one cell of this kind, or of one of them."""
    of_all = netlists._cells(prepared.read_text())
    cells = [name for (where, name), (what, _, _) in of_all.items() if (what, where) == (kind, module)]
    options = (("mode", mode), ("module", module), ("cell", cells[number]), ("port", port), ("portbit", str(bit)))
    return Mutant(options=options, kind=kind, part="machine", source="?")


class Halved(wiring.Component):
    """Counts twice, in a module of its own each; one of them is seen only where the other one is 0."""

    def __init__(self):
        super().__init__({"step": In(1), "seen": Out(4)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.one, m.submodules.other = one, other = Counted(), Counted()
        m.d.comb += [one.step.eq(self.step), other.step.eq(self.step)]
        m.d.comb += self.seen.eq(Mux(one.count == 0, other.count, 0) | one.never)
        return m


class Queued(wiring.Component):
    """A FIFO of two places within a module of this name; nothing here keeps it from being written while it is full."""

    def __init__(self, name):
        self._name = name
        super().__init__({"given": In(1), "gives": In(1), "takes": In(1), "taken": Out(1)})

    def elaborate(self, platform):
        m, inner = Module(), Module()
        inner.submodules.fifo = fifo = SyncFIFO(width=1, depth=2)
        inner.d.comb += [
            fifo.w_data.eq(self.given),
            fifo.w_en.eq(self.gives),
            fifo.r_en.eq(self.takes),
            self.taken.eq(fifo.r_data & fifo.r_rdy),
        ]
        m.submodules[self._name] = inner
        return m
