"""A virtual board ends with the program that started it, and has one client at a time, which talks as a host does."""

import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from boards.device import Device
from boards.virtual_board import VirtualBoard
from hw.link.protocol import HEADER_BYTES, Command, crc8, packet
from sim.simulators import SimulationError
from tests.addresses import has_ipv6
from tests.boards.small_board import IMAGES, NETWORK, PLAN, expected


def test_a_virtual_board_does_not_outlive_its_program():
    text = (
        "from boards.virtual_board import VirtualBoard; from tests.boards.small_board import NETWORK, PLAN; import os\n"
        "print(VirtualBoard(NETWORK, PLAN).port, flush=True); os._exit(1)"
    )
    port = int(subprocess.run([sys.executable, "-c", text], stdout=subprocess.PIPE, check=False).stdout)
    deadline, refused = time.monotonic() + 20, False
    while not refused and time.monotonic() < deadline:
        try:
            socket.create_connection(("localhost", port), timeout=5).close()
        except ConnectionRefusedError:
            refused = True
        time.sleep(0.1)
    assert refused


def connected(board):
    return socket.create_connection(("127.0.0.1", board.port), timeout=60)


IDENTIFY = packet(7, Command.IDENTIFY)


def answered(client):
    """Takes the whole answer to `IDENTIFY`: what a client leaves on the wire would go to the next one."""
    with client.makefile("rb") as stream:
        header = stream.read(HEADER_BYTES)
        assert header[:3] == IDENTIFY[:3]
        rest = stream.read(int.from_bytes(header[3:], "little") + 1)
    return crc8(header[1:] + rest) == 0


@pytest.mark.parametrize(
    "begin",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\0"],
    ids=["GET", "POST", "TLS", "zero"],
)
def test_a_browser_is_no_host(board, begin):
    """A page may send packets after what a browser sends first: none reaches the board."""
    with connected(board) as client:
        client.sendall(begin + IDENTIFY)
        try:
            said = client.recv(4096)
        except ConnectionResetError:
            said = b""
    assert said == b""
    with connected(board) as client:
        client.sendall(IDENTIFY)
        assert answered(client)


def test_a_second_client_waits(board):
    with ExitStack() as stack:
        with Device.open(board.url, clock=board.seconds) as device:
            second = stack.enter_context(connected(board))
            second.sendall(IDENTIFY)
            found = device.classify(IMAGES[0])
            assert (found.answer, found.counts) == expected(IMAGES[0])
            second.settimeout(0.1)
            with pytest.raises(TimeoutError):
                second.recv(1)
        second.settimeout(60)
        assert answered(second)


def test_a_client_that_says_nothing_keeps_nobody_out(board):
    with connected(board) as silent, Device.open(board.url, clock=board.seconds) as device:
        assert silent.recv(1) == b""
        found = device.classify(IMAGES[1])
        assert (found.answer, found.counts) == expected(IMAGES[1])


def test_another_address():
    if not has_ipv6():
        with pytest.raises(SimulationError, match=r"^virtual board, ::1, port 0: \w+: "):
            VirtualBoard(NETWORK, PLAN, address="::1")
        return
    with VirtualBoard(NETWORK, PLAN, address="::1") as board:
        assert board.url == f"socket://[::1]:{board.port}"
        with pytest.raises(ConnectionRefusedError):
            connected(board)
        with Device.open(board.url, clock=board.seconds) as device:
            device.require(NETWORK)


def test_an_address_that_is_not_this_machines():
    with pytest.raises(SimulationError, match=r"^virtual board, 192\.0\.2\.1, port 0: bind: Cannot assign requested address$"):
        VirtualBoard(NETWORK, PLAN, address="192.0.2.1")
