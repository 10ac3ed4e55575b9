"""The large memory with one port: four SPRAMs of an iCE40 UltraPlus side by side."""

from amaranth.hdl import ClockSignal, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from model.machine.folded_layout import SINGLE_BITS, SINGLE_WORDS

__all__ = ["PARTS", "PART_BITS", "SinglePort"]

PART_BITS = 16
"""Bits of one SPRAM."""

PARTS = SINGLE_BITS // PART_BITS
"""SPRAMs side by side."""


class SinglePort(wiring.Component):
    """`SINGLE_WORDS` words of `SINGLE_BITS`, read or written one per cycle; what it holds after power-up is not known.

    Timing
    ------
    ``read_data`` has the word a cycle after its address. After a cycle that writes it has nothing of use.

    Members
    -------
    addr : In, range(SINGLE_WORDS)
        word address
    write_en : In, PARTS bits
        a bit for each `PART_BITS` of the word
    write_data : In, SINGLE_BITS bits
    read_data : Out, SINGLE_BITS bits
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "addr": In(range(SINGLE_WORDS)),
                "write_en": In(PARTS),
                "write_data": In(SINGLE_BITS),
                "read_data": Out(SINGLE_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for number in range(PARTS):
            part = slice(number * PART_BITS, (number + 1) * PART_BITS)
            # Of the pins of power, only POWEROFF is active low (Lattice FPGA-TN-02022, SB_SPRAM256KA).
            m.submodules[f"spram_{number}"] = Instance(
                "SB_SPRAM256KA",
                i_CLOCK=ClockSignal(),
                i_ADDRESS=self.addr,
                i_DATAIN=self.write_data[part],
                i_MASKWREN=0b1111,
                i_WREN=self.write_en[number],
                i_CHIPSELECT=1,
                i_STANDBY=0,
                i_SLEEP=0,
                i_POWEROFF=1,
                o_DATAOUT=self.read_data[part],
            )
        return m
