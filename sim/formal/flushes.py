"""The lanes of a flush: what each of the banks that share them is told, and when."""

from types import ModuleType
from typing import Any

from amaranth.hdl import Array, Cat, Const, Mux, Signal, signed
from amaranth.lib import data

import hw.pipeline.flush_lanes
from model.machine.stages import more_bits
from model.network import Network, Shape
from sim.formal.bench import Bench
from sim.formal.deferred import taken_at_flush
from sim.formal.neurons import layer_of
from sim.formal.properties import Fault, Property
from sim.formal.states import history

__all__ = ["PROPERTIES"]


def flush_lanes(bench: Bench, flushes: ModuleType, *, banks: int, channels: int, **options: Any) -> None:
    """`FlushLanes` beside the bank that is flushed, if any, and the states that it showed.

    In each cycle one bank at most is flushed, any one; all of them show any states. The lanes cannot be held up, and hold no one
    up: what they tell is of the bank that was flushed as many cycles ago as they take, and nothing where none was.
    """
    m, layer = bench.m, layer_of(**options)
    network = Network(name="small", input_shape=Shape(1, 1, 1), layers=(layer,), firing="deferred")
    most = more_bits(network, layer.name)
    dut = flushes.FlushLanes(layer=layer, channels=channels, banks=banks, more_bits=most)
    m.submodules.dut = dut
    flushed, states = bench.any(banks, "flushed"), bench.any(dut.states.shape(), "states")
    bench.assume((flushed & (flushed - 1)) == 0)
    m.d.comb += [dut.flushed.eq(flushed), dut.states.eq(states)]

    latency = 2 + (banks > 1)
    number = sum((n * flushed[n] for n in range(banks)), Const(0))
    shown = Array(states[bank].as_value() for bank in range(banks))[number]
    asked = history(bench, flushed, "flushed", latency)
    of = data.ArrayLayout(states.shape().elem_shape.elem_shape, channels)(history(bench, shown, "shown", latency)[-1])
    answers, told = asked[-1].any(), []
    (least, greatest), f = layer.count_limits, layer.threshold_log2
    for lane in range(channels):
        summed, count = of[lane].summed, of[lane].count
        bench.assume(~answers | ((count >= least) & (count <= greatest)))
        potential = Signal(signed(max(len(summed), len(count) + f + 1) + 1), name=f"potential_{lane}")
        m.d.comb += potential.eq(summed + (count << f))
        taken = taken_at_flush(m, layer, potential, count)
        change = Signal(signed(len(taken.count) + 2), name=f"change_{lane}")
        m.d.comb += change.eq(Mux(answers, taken.count - count, 0))
        bench.holds(dut.plus[lane] == (change > 0))
        bench.holds(dut.minus[lane] == (change < 0))
        bench.holds(dut.saturated[lane] == (answers & (taken.outside | taken.held)))
        bench.holds(dut.more[lane] == Mux(change > 0, change - 1, Mux(change < 0, -change - 1, 0)))
        told.append((change, dut.saturated[lane]))

    # Each bank right after another one, and after itself; a cycle without; in one group of lanes all that there is to tell.
    for bank in range(banks):
        bench.reaches(asked[-1][bank] & asked[-2][bank - 1] & (told[0][0] != 0))
        bench.reaches(asked[-1][bank] & asked[-2][bank] & (told[-1][0] > 1))
    bench.reaches(~answers & asked[-2].any() & bench.before(answers, "answered"))
    bench.reaches((told[0][0] < 0) & (told[-1][0] > 0) if channels > 1 else told[0][0] < 0)
    bench.reaches(Cat(late for _, late in told).all())


_NARROW = {"weight_bits": 4, "potential_bits": 6, "count_bits": 3, "threshold_log2": 2}

PROPERTIES = (
    Property(
        name="Lanes of a flush that banks share: each flush is answered once, in order, by its own states, after 2 or 3 cycles",
        module=hw.pipeline.flush_lanes,
        part="FlushLanes",
        bound="1 to 4 banks, 1 to 3 channels; of narrow widths, and of potentials of 16 bits and counts of 8; "
        "activations that end; halves to even",
        build=flush_lanes,
        cases=[
            {"banks": 2, "channels": 2, "activation": "identity", **_NARROW},
            *(
                {"banks": banks, "channels": channels, "activation": "relu", **_NARROW}
                for banks in (1, 3, 4)
                for channels in (1, 3)
            ),
            {"banks": 3, "channels": 2, "activation": "identity", "halves_to_even": True, **_NARROW},
            {"banks": 2, "channels": 2, "activation": "relu", "threshold_log2": 5, "count_max": 6},
            {"banks": 3, "channels": 2, "activation": "identity", "threshold_log2": 8},
        ],
        reach=8,
        steps=4,
        fault=Fault(
            says="a bank is answered with the states of all",
            right="self.states[bank].as_value() & self.flushed[bank].replicate(states.shape().size)",
            wrong="self.states[bank].as_value()",
            steps=5,
        ),
        more_faults=[
            Fault(
                says="only the flush of the first bank is answered",
                right="visits.eq(self.flushed.any())",
                wrong="visits.eq(self.flushed[0])",
                steps=5,
            ),
            Fault(
                says="it is answered a cycle early, with the states before",
                right="visits.eq(self.flushed.any()),",
                wrong="",
                steps=5,
            ),
            Fault(
                says="where no bank is flushed one is answered",
                right="m.d.sync += taken.eq(visits)",
                wrong="m.d.sync += taken.eq(1)",
                steps=5,
                case=1,
            ),
            Fault(
                says="saturation is told without a flush",
                right="saturated.eq(held & taken)",
                wrong="saturated.eq(held)",
                steps=5,
                case=1,
            ),
            Fault(
                says="each lane has the first one's state",
                right="flush.state.eq(states[lane])",
                wrong="flush.state.eq(states[0])",
                steps=5,
            ),
            Fault(
                says="a lane's count before is that of the flush that follows",
                right="m.d.sync += [before.eq(states[lane].count), after.eq(flush.count), held.eq(flush.held)]",
                wrong="m.d.comb += before.eq(states[lane].count)\n            "
                "m.d.sync += [after.eq(flush.count), held.eq(flush.held)]",
                steps=5,
            ),
        ],
    ),
)
