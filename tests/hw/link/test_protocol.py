"""The protocol as both sides have it: packets, checksums, events, and no hardware to import."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Const
from amaranth.lib import crc

from hw.aer import HostEvent
from hw.link.protocol import (
    CRC_POLYNOMIAL,
    SYNC,
    Command,
    Event,
    crc8,
    event_bytes,
    event_widths,
    load_payloads,
    longest_payload,
    pack_bits,
    pack_event,
    packet,
    takes_bits,
    unpack_event,
)
from hw.link.system import System
from model.machine.named_plans import named_plan
from sim.generators.networks import random_network

NETWORK = random_network(2)


def test_a_bit_of_each_pixel():
    frame = np.zeros((2, 4, 2), np.bool_)
    frame[0, 0, 1] = frame[1, 3, 1] = True
    assert pack_bits(frame) == bytes([0b10, 0b1000_0000])


@pytest.mark.parametrize(
    ("changed", "taken"),
    [({}, True), ({"flush_events": 3}, False), ({"firing": "immediate"}, False), ({"input_levels": 2, "input_step": 9}, False)],
    ids=["deferred", "flushes", "immediate", "levels"],
)
def test_bits_suffice_where_order_decides_nothing(changed, taken):
    network = replace(random_network(17), firing="deferred")
    assert network.input_shape.size % 8 == 0
    assert takes_bits(replace(network, **changed)) is taken
    assert not takes_bits(replace(random_network(2), firing="deferred"))


def test_it_needs_no_amaranth():
    text = "import sys, hw.link.protocol; print(*sorted({'amaranth', 'numba', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_the_checksum_is_the_smbus_crc():
    """Its check value is that of the catalogue, and it is the one that the hardware has."""
    assert crc8(b"123456789") == 0xF4
    assert crc8(b"") == 0
    hardware = crc.catalog.CRC8_SMBUS(data_width=8)
    assert hardware.algorithm.polynomial == CRC_POLYNOMIAL
    data = bytes(range(256)) * 2
    assert crc8(data) == hardware.compute(data)
    assert crc8(data + bytes([crc8(data)])) == 0


def test_a_packet():
    made = packet(0x12, Command.WATCH, b"\x05\x06")
    assert made[:-1] == bytes([SYNC, 0x12, 0x04, 2, 0, 5, 6])
    assert made[-1] == crc8(made[1:-1])


@pytest.mark.parametrize("seed", range(4))
def test_events_lie_as_the_hardware_has_them(seed):
    network = random_network(seed)
    layout = HostEvent(network)
    widths = event_widths(network)
    assert [layout[name].width for name in ("port", "kind", "negative", "y", "x", "c")] == list(widths.values())
    event = Event(port=len(network.layers), negative=True, y=1, x=2, c=0)
    token = {"port": event.port, "kind": 0, "negative": 1, "y": 1, "x": 2, "c": 0}
    assert int.from_bytes(pack_event(network, event), "little") == Const.cast(layout.const(token).as_value()).value
    assert len(pack_event(network, event)) == event_bytes(network) == -(-layout.size // 8)
    for sent in (event, Event(), Event(port=1, end=True), Event(y=(1 << widths["y"]) - 1)):
        assert unpack_event(network, pack_event(network, sent)) == sent


def test_a_field_that_does_not_fit():
    most = (1 << event_widths(NETWORK)["x"]) - 1
    with pytest.raises(ValueError, match=rf"^x of an event must be within 0..{most}, not {most + 1}$"):
        pack_event(NETWORK, Event(x=most + 1))
    with pytest.raises(ValueError, match=rf"^x of an event must be within 0..{most}, not -1$"):
        pack_event(NETWORK, Event(x=-1))


def test_weights_are_sent_in_packets_that_a_device_takes():
    words = list(range(1, 1 << 40, 1 << 33))
    longest = longest_payload(NETWORK, short=True)
    payloads = load_payloads(NETWORK, words, first=300)
    assert all(len(payload) <= longest for payload in payloads) and len(payloads) > 1
    found, at = [], 300
    for payload in payloads:
        assert int.from_bytes(payload[:2], "little") == at
        new = [int.from_bytes(payload[n : n + 8], "little") for n in range(2, len(payload), 8)]
        found += new
        at += len(new)
    assert found == words


def test_a_timeout_that_would_hide_the_silence_before_a_restart():
    network = random_network(1)
    with pytest.raises(ValueError, match=r"^timeout_bits must be more than 400, not 400$"):
        System(network=network, plan=named_plan(network, "minimal"), divisor=4, clock_hz=1e6, timeout_bits=400)
