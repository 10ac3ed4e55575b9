"""Memories of which nothing is known of a word that is read while it is written."""

from typing import Any, NamedTuple

from amaranth.hdl import Cat, Mux, Signal, Value, unsigned
from amaranth.lib.memory import Memory

from sim.formal.bench import Bench

__all__ = ["CollidingMemory"]


class CollidingMemory(Memory):
    """A memory whose clocked reads find any value in a word that is written in the same cycle.

    For components that forward such words, or do not look at them: Yosys may build them of memories that promise no more. Reads
    are in every cycle, as these components' are.

    Parameters
    ----------
    bench : Bench
        Where it is.
    name : str
        Of the values that a read may find.
    width, depth : int
        Bits of a word, and words.
    init : list[int]
        Content at the start.
    """

    def __init__(self, bench: Bench, name: str, *, width: int, depth: int, init: list[int]) -> None:
        self._bench, self._name = bench, name
        self._writes: list[Any] = []
        self._reads: list[tuple[Any, Signal]] = []
        super().__init__(shape=unsigned(width), depth=depth, init=init)

    def write_port(self, **options: Any) -> Any:
        """A port as any memory's."""
        port = super().write_port(**options)
        self._writes.append(port)
        return port

    def read_port(self, *, domain: str = "sync", **options: Any) -> Any:
        """A port as any memory's; what a clocked one finds is settled by `collide`."""
        port = super().read_port(domain=domain, **options)
        if domain == "comb":
            return port
        data = Signal(Value.cast(port.data).shape(), name=f"{self._name}_read")
        self._reads.append((port, data))
        return _ReadPort(port.addr, data, Signal(name=f"{self._name}_en"))

    def collide(self) -> None:
        """Say what the clocked reads find, once all ports are there."""
        m = self._bench.m
        for port, data in self._reads:
            collided = Signal(name=f"{self._name}_collided")
            m.d.sync += collided.eq(Cat(write.en & (write.addr == port.addr) for write in self._writes).any())
            m.d.comb += [port.en.eq(1), data.eq(Mux(collided, self._bench.any(len(data), f"{self._name}_any"), port.data))]


class _ReadPort(NamedTuple):
    addr: Signal
    data: Signal
    en: Signal
