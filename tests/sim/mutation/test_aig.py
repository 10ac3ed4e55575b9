"""And-inverter graphs: logic, numbers, and AIGER there and back."""

import itertools

import pytest

from sim.mutation.aig import Graph, Netlist


def table(graph, inputs, literal):
    """The values of a literal, for all values of the inputs, the first one changing fastest."""
    rows = 1 << len(inputs)
    given = {each: sum((row >> number & 1) << row for row in range(rows)) for number, each in enumerate(inputs)}
    ones = (1 << rows) - 1
    word = graph.values(given, ones)[literal >> 1] ^ (ones if literal & 1 else 0)
    return [word >> row & 1 for row in range(rows)]


def test_logic():
    graph = Graph()
    which, one, other = inputs = [graph.free() for _ in range(3)]
    rows = [row[::-1] for row in itertools.product((0, 1), repeat=3)]
    assert table(graph, inputs, graph.choose(which, one, other)) == [b if a else c for a, b, c in rows]
    assert table(graph, inputs, graph.differ(one, other)) == [b ^ c for _, b, c in rows]
    assert table(graph, inputs, graph.any(inputs)) == [a | b | c for a, b, c in rows]
    assert (graph.any([]), graph.both(which, 1), graph.both(which, which ^ 1), graph.either(which, 1)) == (0, which, 0, 1)
    nodes = len(graph.nodes)
    assert graph.both(one, other) == graph.both(other, one) and len(graph.nodes) <= nodes + 1


@pytest.mark.parametrize("size", range(1, 9))
def test_numbers_below(size):
    graph = Graph()
    bits = [graph.free() for _ in range(3)]
    assert table(graph, bits, graph.below(bits, size)) == [int(value < size) for value in range(8)]


def test_aiger_there_and_back():
    """A counter of two bits that a third one depends on; a latch that nothing needs is gone."""
    graph = Graph()
    step, low, high, lost = (graph.free() for _ in range(4))
    latches = {low: graph.differ(low, step), high: graph.differ(high, graph.both(low, step)), lost: step}
    read = Netlist.from_aiger(graph.aiger([step], latches, [graph.both(low, high), 1]))
    assert (len(read.inputs), len(read.latches), read.driven[1]) == (1, 2, 1)
    state, seen = [0, 0], []
    for _ in range(5):
        again = Graph()
        bits = [again.free() for _ in range(3)]
        taken, given = again.add(read, bits[:1], bits[1:])
        values = again.values(dict(zip(bits, [1, *state], strict=True)), 1)
        seen.append(values[given[0] >> 1] ^ given[0] & 1)
        state = [values[each >> 1] ^ each & 1 for each in taken]
    assert seen == [0, 0, 0, 1, 0]
