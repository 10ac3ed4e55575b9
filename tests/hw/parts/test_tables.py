"""Tables and products by constants against the integers they stand for."""

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from hw.parts.tables import lookup, scaled, times


@pytest.mark.parametrize("multiply", [times, scaled])
def test_products_by_constants(multiply):
    value, module, products = Signal(6), Module(), []
    for factor in range(80):
        products.append(Signal(16, name=f"times_{factor}"))
        module.d.comb += products[-1].eq(multiply(value, factor))

    async def check(ctx):
        for number in range(64):
            ctx.set(value, number)
            assert [ctx.get(product) for product in products] == [number * factor for factor in range(80)]

    simulator = Simulator(module)
    simulator.add_testbench(check)
    simulator.run()


def test_lookup():
    index, module, table = Signal(range(5)), Module(), [3, 0, 9, 9, 1]
    entry = lookup(module, "entry", table, index)
    assert (len(entry), entry.name) == (4, "entry")

    async def check(ctx):
        for number, expected in enumerate(table):
            ctx.set(index, number)
            assert ctx.get(entry) == expected

    simulator = Simulator(module)
    simulator.add_testbench(check)
    simulator.run()
