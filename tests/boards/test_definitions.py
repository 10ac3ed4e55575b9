"""Boards: their pins are those of amaranth_boards, their devices have families."""

import importlib
from pathlib import Path

import pytest

from boards.definitions import BOARDS, board_named
from hw.flow.families.registry import FAMILIES, family_named

PLATFORMS = {
    "ulx3s-25f": ("ulx3s", "ULX3S_25F_Platform"),
    "ulx3s-45f": ("ulx3s", "ULX3S_45F_Platform"),
    "ulx3s-85f": ("ulx3s", "ULX3S_85F_Platform"),
    "orangecrab-25f": ("orangecrab_r0_2", "OrangeCrabR0_2_25FPlatform"),
    "ecpix5-85f": ("ecpix5", "ECPIX585Platform"),
    "icebreaker": ("icebreaker", "ICEBreakerPlatform"),
    "tang-nano-9k": ("tang_nano_9k", "TangNano9kPlatform"),
    "tang-primer-20k": ("tang_primer_20k", "TangPrimer20kDockPlatform"),
}
"""Module and class of amaranth_boards that describes each board; what is not here it has not."""


AT_CONNECTORS = {"orangecrab-25f": (("io", 0), "0", "1")}
"""Boards without a UART of their own: connector, and its pins for what the device receives and sends."""


def resources(platform):
    """Of each resource, by name, number and subsignal: pins, whether they are inverted, and its clock."""
    found = {}
    sites = {
        f"{item.name}_{item.number}:{pin}": site for item in platform.connectors for pin, site in item.mapping.items()
    }
    for resource in [*platform.resources, *getattr(platform, "break_off_pmod", [])]:
        for part in resource.ios:
            name = (resource.name, resource.number, part.name if hasattr(part, "ios") else "")
            for io in getattr(part, "ios", [part]):
                if hasattr(io, "names"):
                    names = [sites.get(pin, pin) for pin in io.names]
                    found.setdefault(name, (names, io.invert, resource.clock))
    return found


@pytest.mark.parametrize("name", PLATFORMS)
def test_pins_are_those_of_amaranth_boards(name):
    board = board_named(name)
    module, cls = PLATFORMS[name]
    platform = getattr(importlib.import_module(f"amaranth_boards.{module}"), cls)
    found = resources(platform)
    (clock,) = [value for value in found.values() if board.clock_pin in value[0]]
    assert clock[2].frequency == board.clock_hz
    uart = {key[2]: value[0] for key, value in found.items() if key[0] == "uart"}
    if name in AT_CONNECTORS:
        connector, rx, tx = AT_CONNECTORS[name]
        (pins,) = [item.mapping for item in platform.connectors if (item.name, item.number) == connector]
        uart = {"rx": [pins[rx]], "tx": [pins[tx]]}
    assert (uart["rx"], uart["tx"]) == ([board.rx_pin], [board.tx_pin])
    if board.flash_pins:
        flash = {key[2]: value[:2] for key, value in found.items() if key[0] == "spi_flash_1x"}
        assert [flash[part] for part in ("cs", "clk", "copi", "cipo")] == [
            ([pin], not n) for n, pin in enumerate(board.flash_pins)
        ]
    leds = {pin: invert for key, (pins, invert, _) in found.items() if "led" in key[0] for pin in pins}
    assert set(board.led_pins) <= set(leds)
    assert {leds[pin] for pin in board.led_pins} == {board.leds_low}


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_port_has_a_pin_of_its_own(board):
    assert board.family in FAMILIES
    sites = [pin.site for pin in board.pins]
    assert len(set(sites)) == len(sites) == 3 + len(board.led_pins) + len(board.flash_pins)
    text = board.constraints()
    assert all(pin.site in text for pin in board.pins)


def test_the_documented_boards_are_these():
    table = (Path(__file__).parents[2] / "docs" / "boards.md").read_text()
    for board in BOARDS.values():
        leds = " ".join(board.led_pins) + (" (low)" if board.leds_low else "")
        facts = (f"`{board.name}`", board.title, board.of_family.TITLE, board.part)
        pins = (f"{board.clock_hz / 1e6:g} MHz, {board.clock_pin}", f"{board.rx_pin}, {board.tx_pin}", leds)
        row = " | ".join((*facts, *pins, f"{board.luts:,}", board.memories, f"`{board.programmer}`"))
        assert f"| {row} |" in table


def test_an_unknown_family_is_named():
    with pytest.raises(ValueError, match=r"^family must be one of ecp5.*, not 'ecp6'$"):
        family_named("ecp6")
