"""Boards as data."""

from dataclasses import dataclass

from hw.flow.families.base import Clock, Family, Part, Pin
from hw.flow.families.registry import FAMILIES
from hw.link.flash import FLASH_PORTS
from hw.parts.single_port import PARTS
from model.machine.blocks import UP5K_BLOCKS
from model.machine.folded_layout import Folded
from model.machine.plan import Plan
from model.network import Network
from model.support.errors import BadInputError

__all__ = ["BOARDS", "Board", "board_named"]


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board, and what its device has.

    Parameters
    ----------
    name : str
        Name by which commands know it.
    title : str
        Name for people.
    family : str
        Name of the device's family (`hw.flow.families.registry`).
    part : str
        The device's number, as one orders it.
    device, package, speed : str
        As the family's place and route calls them; empty where it does not ask.
    clock_hz, clock_pin : int, str
        The oscillator.
    frequency_mhz : float
        Clock of the machine where one does not ask for another.
    rx_pin, tx_pin : str
        UART, seen from the device.
    rx_pull_up : bool
        Hold the line at rest where nothing may be connected.
    led_pins : tuple[str, ...]
        LEDs, lowest bit first.
    leds_low : bool
        The LEDs light at 0.
    io_standard : str
        Of all these pins.
    luts, flip_flops, ram_blocks : int
        LUT4s, flip-flops, memory blocks (`hw.flow.families.base.Family.RAM_BLOCK`).
    large_blocks : int
        Single-port memories of 256 kbit, without initial contents.
    programmer : str
        openFPGALoader's name of the board.
    flash_pins : tuple[str, ...]
        Serial flash that configures the device: in the order of `hw.link.flash.FLASH_PORTS`; empty where a design has no use for
        it, as its memories are filled by the bitstream.
    flash_addr : int
        Byte in that flash from which weights are that have to be loaded; after the bitstream, on a block of 64 KiB.
    loads_sram : bool
        The programmer reaches the device itself, not only its flash.
    network, plan : str
        Bundled network, and plan or the name of its bundled file, that it is built with where one does not ask for others.
    """

    name: str
    title: str
    family: str
    part: str
    device: str
    package: str
    speed: str
    clock_hz: int
    clock_pin: str
    frequency_mhz: float
    rx_pin: str
    tx_pin: str
    rx_pull_up: bool = False
    led_pins: tuple[str, ...]
    leds_low: bool = False
    io_standard: str = "LVCMOS33"
    luts: int
    flip_flops: int
    ram_blocks: int
    large_blocks: int = 0
    programmer: str
    flash_pins: tuple[str, ...] = ()
    flash_addr: int = 0x20000
    loads_sram: bool = True
    network: str = "mnist-fast"
    plan: str = "mnist-fast-22.json"

    @property
    def of_family(self) -> Family:
        """The device's family."""
        return FAMILIES[self.family]

    @property
    def target(self) -> Part:
        """The device."""
        return Part(number=self.part, device=self.device, package=self.package, speed=self.speed)

    @property
    def pins(self) -> tuple[Pin, ...]:
        """Where the ports of `boards.top.BoardTop` go."""
        sites = {"clk": self.clock_pin, "rx": self.rx_pin, "tx": self.tx_pin}
        if self.flash_pins:
            sites |= zip(FLASH_PORTS, self.flash_pins, strict=True)
        # A port of one bit has no index.
        sites |= {f"led[{n}]" if len(self.led_pins) > 1 else "led": pin for n, pin in enumerate(self.led_pins)}
        return tuple(
            Pin(port=port, site=site, standard=self.io_standard, pull_up=port == "rx" and self.rx_pull_up)
            for port, site in sites.items()
        )

    @property
    def memories(self) -> str:
        """Its memories, for people."""
        large = f", {self.large_blocks} x {self.of_family.LARGE_BLOCK}" if self.large_blocks else ""
        return f"{self.ram_blocks} x {self.of_family.RAM_BLOCK}{large}"

    def constraints(self) -> str:
        """The family's constraint file: pins, and the oscillator's frequency."""
        return self.of_family.constraints(self.pins, clock="clk", clock_hz=self.clock_hz)

    def clock(self, wanted_hz: float | None = None) -> Clock:
        """What gives the greatest frequency that is not above ``wanted_hz``, the board's own by default."""
        return self.of_family.clock(self.target, self.clock_hz, wanted_hz or self.frequency_mhz * 1e6)

    def reads_flash(self, network: Network, plan: Plan) -> bool:
        """Whether the weights of such a machine have to be loaded, and the board has a flash that can do it."""
        return bool(self.flash_pins and plan.folded and Folded.of(network, plan).single_weight_words)

    def short_of_folded(self, folded: Folded) -> list[str]:
        """What the device has too little of for a folded machine's memories and those of its link, and by how much."""
        large = PARTS if folded.single_words else 0
        short = [f"{large - self.large_blocks} large blocks of memory (needs {large}, has {self.large_blocks})"]
        blocks = folded.blocks + folded.link_blocks
        # Blocks are counted in those of the iCE40; elsewhere they are larger.
        counts = self.family == "ice40"
        return [
            *(short if large > self.large_blocks else []),
            *(self.short_of(luts=0, ram_blocks=blocks) if counts else []),
        ]

    def short_of(self, *, luts: int, ram_blocks: int, flip_flops: int = 0) -> list[str]:
        """What the device has too little of for a design of that size, and by how much."""
        needs = (
            ("LUTs", luts, self.luts),
            ("flip-flops", flip_flops, self.flip_flops),
            ("block RAMs", ram_blocks, self.ram_blocks),
        )
        return [f"{need - have} {what} (needs {need}, has {have})" for what, need, have in needs if need > have]


def _ulx3s(
    size: str, device: str, luts: int, ram_blocks: int, *, network: str = Board.network, plan: str = Board.plan
) -> Board:
    return Board(
        name=f"ulx3s-{size}",
        title=f"ULX3S {size.upper()}",
        family="ecp5",
        part=f"LFE5U-{size.upper()}-6BG381C",
        device=device,
        package="CABGA381",
        speed="6",
        clock_hz=25_000_000,
        clock_pin="G2",
        frequency_mhz=60.0,
        rx_pin="M1",
        tx_pin="L4",
        led_pins=("B2", "C2", "C1", "D2", "D1", "E2", "E1", "H3"),
        luts=luts,
        flip_flops=luts,
        ram_blocks=ram_blocks,
        programmer="ulx3s",
        network=network,
        plan=plan,
    )


_ORANGECRAB = Board(
    name="orangecrab-25f",
    title="OrangeCrab 25F, r0.2",
    family="ecp5",
    part="LFE5U-25F-8MG285C",
    device="25k",
    package="CSFBGA285",
    speed="8",
    clock_hz=48_000_000,
    clock_pin="A9",
    frequency_mhz=60.0,
    rx_pin="N17",
    tx_pin="M18",
    rx_pull_up=True,
    led_pins=("K4", "M3", "J3"),
    leds_low=True,
    luts=24_288,
    flip_flops=24_288,
    ram_blocks=56,
    programmer="orangeCrab",
    loads_sram=False,
    network="mnist-small",
    plan="minimal",
)
"""Its USB is the device's own: the UART is at the pins 0 and 1 of its edge, and the boot loader behind the USB writes the flash.
Its LEDs are red, green and blue of one."""

_ECPIX5 = Board(
    name="ecpix5-85f",
    title="ECPIX-5 85F",
    family="ecp5",
    part="LFE5UM5G-85F-8BG554I",
    device="um5g-85k",
    package="CABGA554",
    speed="8",
    clock_hz=100_000_000,
    clock_pin="K23",
    frequency_mhz=60.0,
    rx_pin="R26",
    tx_pin="R24",
    rx_pull_up=True,
    led_pins=("R21", "W21", "K24", "R23"),
    leds_low=True,
    luts=83_640,
    flip_flops=83_640,
    ram_blocks=208,
    programmer="ecpix5",
)
"""Its LEDs are the green ones of four."""

_COLORLIGHT_I5 = Board(
    name="colorlight-i5",
    title="Colorlight i5, v7.0, on its extension board",
    family="ecp5",
    part="LFE5U-25F-6BG381C",
    device="25k",
    package="CABGA381",
    speed="6",
    clock_hz=25_000_000,
    clock_pin="P3",
    frequency_mhz=60.0,
    rx_pin="H18",
    tx_pin="J17",
    rx_pull_up=True,
    led_pins=("U16",),
    leds_low=True,
    luts=24_288,
    flip_flops=24_288,
    ram_blocks=56,
    programmer="colorlight-i5",
    network="mnist-small",
    plan="minimal",
)
"""Pins as in LiteX-Boards' ``colorlight_i5`` and the documentation of github.com/wuxx/Colorlight-FPGA-Projects."""

_ICEBREAKER = Board(
    name="icebreaker",
    title="iCEBreaker",
    family="ice40",
    part="iCE40UP5K-SG48",
    device="up5k",
    package="sg48",
    speed="",
    clock_hz=12_000_000,
    clock_pin="35",
    frequency_mhz=24.0,
    rx_pin="6",
    tx_pin="9",
    rx_pull_up=True,
    led_pins=("26", "27", "25", "23", "21"),
    luts=5_280,
    flip_flops=5_280,
    ram_blocks=UP5K_BLOCKS,
    large_blocks=4,
    programmer="ice40_generic",
    flash_pins=("16", "15", "14", "17"),
    loads_sram=False,
    network="mnist-sparse",
    plan="folded",
)
"""Its LEDs are on the part that breaks off. What its programmer reaches is the flash, unless a jumper is turned."""

_TANG_NANO_9K = Board(
    name="tang-nano-9k",
    title="Tang Nano 9K",
    family="gowin",
    part="GW1NR-LV9QN88PC6/I5",
    device="GW1N-9C",
    package="QN88P",
    speed="C6/I5",
    clock_hz=27_000_000,
    clock_pin="52",
    frequency_mhz=27.0,
    rx_pin="18",
    tx_pin="17",
    rx_pull_up=True,
    led_pins=("10", "11", "13", "14", "15", "16"),
    leds_low=True,
    luts=8_640,
    flip_flops=6_480,
    ram_blocks=26,
    programmer="tangnano9k",
    network="mnist-small",
    plan="minimal",
)

_TANG_PRIMER_20K = Board(
    name="tang-primer-20k",
    title="Tang Primer 20K on its dock",
    family="gowin",
    part="GW2A-LV18PG256C8/I7",
    device="GW2A-18C",
    package="PG256",
    speed="C8/I7",
    clock_hz=27_000_000,
    clock_pin="H11",
    frequency_mhz=27.0,
    rx_pin="T13",
    tx_pin="M11",
    rx_pull_up=True,
    led_pins=("C13", "A13", "N16", "N14", "L14", "L16"),
    leds_low=True,
    luts=20_736,
    flip_flops=15_552,
    ram_blocks=46,
    programmer="tangprimer20k",
    network="mnist-small",
    plan="minimal",
)

BOARDS = {
    board.name: board
    for board in (
        _ulx3s("25f", "25k", 24_288, 56, network="mnist-small", plan="minimal"),
        _ulx3s("45f", "45k", 43_848, 108),
        _ulx3s("85f", "85k", 83_640, 208),
        _ORANGECRAB,
        _ECPIX5,
        _COLORLIGHT_I5,
        _ICEBREAKER,
        _TANG_NANO_9K,
        _TANG_PRIMER_20K,
    )
}
"""The boards by name."""


def board_named(name: str) -> Board:
    """The board of that name; `BadInputError` names the known ones where there is none."""
    if name not in BOARDS:
        raise BadInputError(f"board must be one of {', '.join(BOARDS)}, not {name!r}")
    return BOARDS[name]
