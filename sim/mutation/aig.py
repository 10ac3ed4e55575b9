"""And-inverter graphs: read from AIGER, put together anew, simulated, and written.

A literal is twice a node's number, one more where it is inverted; 0 and 1 are the constants.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

__all__ = ["Graph", "Netlist"]


@dataclass(frozen=True, kw_only=True)
class Netlist:
    """A netlist as AIGER has it; all latches begin with 0.

    Parameters
    ----------
    inputs, outputs : Mapping[str, int]
        Places of inputs and of outputs, by name; of a bit of several ``name[bit]``.
    latches, driven : Sequence[int]
        Literals of what latches take and of what drives the outputs. Nodes are numbered from 1: inputs, latches, gates.
    gates : Sequence[tuple[int, int]]
        Literals of what each gate joins.
    """

    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    latches: Sequence[int]
    driven: Sequence[int]
    gates: Sequence[tuple[int, int]]

    @classmethod
    def from_aiger(cls, aiger: bytes) -> Self:
        """What a binary AIGER file has."""
        head, _, rest = aiger.partition(b"\n")
        _, input_count, latch_count, output_count, gate_count = map(int, head.split()[1:6])
        at = 0
        literals = []
        for _ in range(latch_count + output_count):
            end = rest.index(b"\n", at)
            literals.append(int(rest[at:end].split()[0]))
            at = end + 1
        gates = []
        for node in range(1 + input_count + latch_count, 1 + input_count + latch_count + gate_count):
            one, at = _delta(rest, at)
            other, at = _delta(rest, at)
            gates.append((2 * node - one, 2 * node - one - other))
        names: dict[str, dict[str, int]] = {"i": {}, "o": {}}
        for line in rest[at:].decode().splitlines():
            if line.startswith("c"):
                break
            if line[0] in names:
                number, _, name = line[1:].partition(" ")
                names[line[0]][name] = int(number)
        return cls(
            inputs=names["i"] or {str(number): number for number in range(input_count)},
            outputs=names["o"] or {str(number): number for number in range(output_count)},
            latches=literals[:latch_count],
            driven=literals[latch_count:],
            gates=gates,
        )

    def bits(self, name: str) -> list[int]:
        """Places of an output's bits."""
        if name in self.outputs:
            return [self.outputs[name]]
        found: list[int] = []
        while (bit := f"{name}[{len(found)}]") in self.outputs:
            found.append(self.outputs[bit])
        return found


def _delta(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


@dataclass
class Graph:
    """Gates, each there once, over free nodes."""

    nodes: list[tuple[int, int] | None] = field(default_factory=lambda: [None])
    """Of each node what it joins; None where it is free, as 0 is said to be."""

    def __post_init__(self) -> None:
        self._known: dict[tuple[int, int], int] = {}

    def free(self) -> int:
        """A new literal that may have any value."""
        self.nodes.append(None)
        return 2 * (len(self.nodes) - 1)

    def both(self, one: int, other: int) -> int:
        """Whether both are 1."""
        if one > other:
            one, other = other, one
        if one == 0 or one == other ^ 1:
            return 0
        if one in (1, other):
            return other
        found = self._known.get((one, other))
        if found is None:
            self.nodes.append((one, other))
            found = self._known[one, other] = 2 * (len(self.nodes) - 1)
        return found

    def either(self, one: int, other: int) -> int:
        """Whether any of both is 1."""
        return self.both(one ^ 1, other ^ 1) ^ 1

    def differ(self, one: int, other: int) -> int:
        """Whether they differ."""
        return self.either(self.both(one, other ^ 1), self.both(one ^ 1, other))

    def choose(self, which: int, one: int, other: int) -> int:
        """The one where ``which`` is 1, else the other."""
        return self.either(self.both(which, one), self.both(which ^ 1, other))

    def any(self, literals: Iterable[int]) -> int:
        """Whether any is 1."""
        left = list(literals)
        while len(left) > 1:
            left = [self.either(*left[n : n + 2]) if n + 1 < len(left) else left[n] for n in range(0, len(left), 2)]
        return left[0] if left else 0

    def below(self, bits: Sequence[int], size: int) -> int:
        """Whether a number, from its lowest bit on, is less than ``size``."""
        found = 1
        for place, bit in enumerate(bits):
            found = self.either(bit ^ 1, found) if (size - 1) >> place & 1 else self.both(bit ^ 1, found)
        return found

    def add(self, netlist: Netlist, inputs: Sequence[int], latches: Sequence[int]) -> tuple[list[int], list[int]]:
        """Put a netlist in, and give what its latches take, and its outputs."""
        literals = [0, *inputs, *latches]
        for one, other in netlist.gates:
            literals.append(self.both(literals[one >> 1] ^ one & 1, literals[other >> 1] ^ other & 1))
        taken = [literals[each >> 1] ^ each & 1 for each in netlist.latches]
        return taken, [literals[each >> 1] ^ each & 1 for each in netlist.driven]

    def values(self, free: Mapping[int, int], ones: int) -> list[int]:
        """Values of all nodes, many patterns at once, a bit each: of those that are free by literal, else 0."""
        found = [0] * len(self.nodes)
        for node, joined in enumerate(self.nodes):
            if joined is None:
                found[node] = free.get(2 * node, 0)
            else:
                one, other = joined
                first = found[one >> 1] ^ ones if one & 1 else found[one >> 1]
                found[node] = first & (found[other >> 1] ^ ones if other & 1 else found[other >> 1])
        return found

    def aiger(self, inputs: Sequence[int], latches: Mapping[int, int], outputs: Sequence[int]) -> bytes:
        """As binary AIGER, with those latches that any output depends on; ``latches`` says what each of them takes."""
        needed = set[int]()
        left = [each >> 1 for each in outputs]
        while left:
            node = left.pop()
            if node in needed:
                continue
            needed.add(node)
            if (joined := self.nodes[node]) is not None:
                left += [joined[0] >> 1, joined[1] >> 1]
            elif 2 * node in latches:
                left.append(latches[2 * node] >> 1)
        kept = [each for each in latches if each >> 1 in needed]
        gates = sorted(node for node in needed if self.nodes[node] is not None)
        order = [0, *(each >> 1 for each in inputs), *(each >> 1 for each in kept), *gates]
        numbers = {node: 2 * number for number, node in enumerate(order)}
        lines = [f"aig {len(order) - 1} {len(inputs)} {len(kept)} {len(outputs)} {len(gates)}"]
        lines += [str(numbers[each >> 1] ^ each & 1) for each in [*(latches[latch] for latch in kept), *outputs]]
        packed = bytearray()
        for node in gates:
            one, other = sorted((numbers[each >> 1] ^ each & 1 for each in self.nodes[node] or ()), reverse=True)
            for delta in (numbers[node] - one, one - other):
                while delta > 127:
                    packed.append(delta & 127 | 128)
                    delta >>= 7
                packed.append(delta)
        return "\n".join(lines).encode() + b"\n" + bytes(packed)
