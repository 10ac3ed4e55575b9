"""Boards as data."""

from dataclasses import dataclass

__all__ = ["BOARDS", "Board", "board_named"]


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board, and what its device has.

    Parameters
    ----------
    name : name by which commands know it
    title : name for people
    device, package, speed : as nextpnr-ecp5 calls them
    clock_hz, clock_pin : the oscillator
    rx_pin, tx_pin : UART, seen from the device
    led_pins : lamps, lowest bit first
    io_standard : of all these pins
    luts, ram_blocks : LUT4s and DP16KD blocks of 18 kbit
    programmer : openFPGALoader's name of the board
    """

    name: str
    title: str
    device: str
    package: str
    speed: int
    clock_hz: int
    clock_pin: str
    rx_pin: str
    tx_pin: str
    led_pins: tuple[str, ...]
    io_standard: str
    luts: int
    ram_blocks: int
    programmer: str

    def lpf(self) -> str:
        """Pin constraints, as nextpnr-ecp5 and Diamond read them."""
        pins = {"clk": self.clock_pin, "rx": self.rx_pin, "tx": self.tx_pin}
        pins |= {f"led[{n}]": pin for n, pin in enumerate(self.led_pins)}
        lines = [
            f'LOCATE COMP "{name}" SITE "{pin}";\nIOBUF PORT "{name}" IO_TYPE={self.io_standard};'
            for name, pin in pins.items()
        ]
        return "\n".join([*lines, f'FREQUENCY PORT "clk" {self.clock_hz / 1e6:g} MHZ;']) + "\n"

    def short_of(self, *, luts: int, ram_blocks: int) -> list[str]:
        """What the device has too little of for a design of that size, and by how much."""
        needs = (("LUTs", luts, self.luts), ("block RAMs", ram_blocks, self.ram_blocks))
        return [f"{need - have} {what} (needs {need}, has {have})" for what, need, have in needs if need > have]


def _ulx3s(size: str, device: str, luts: int, ram_blocks: int) -> Board:
    return Board(
        name=f"ulx3s-{size}",
        title=f"ULX3S {size.upper()}",
        device=device,
        package="CABGA381",
        speed=6,
        clock_hz=25_000_000,
        clock_pin="G2",
        rx_pin="M1",
        tx_pin="L4",
        led_pins=("B2", "C2", "C1", "D2", "D1", "E2", "E1", "H3"),
        io_standard="LVCMOS33",
        luts=luts,
        ram_blocks=ram_blocks,
        programmer="ulx3s",
    )


BOARDS = {
    board.name: board
    for board in (
        _ulx3s("25f", "25k", 24_288, 56),
        _ulx3s("45f", "45k", 43_848, 108),
        _ulx3s("85f", "85k", 83_640, 208),
    )
}
"""The boards by name."""


def board_named(name: str) -> Board:
    """The board of that name; `ValueError` names the known ones where there is none."""
    if name not in BOARDS:
        raise ValueError(f"board must be one of {', '.join(BOARDS)}, not {name!r}")
    return BOARDS[name]
