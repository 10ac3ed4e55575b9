"""What goes wrong on the wire is told, and asked again: bytes that change or get lost, noise, silence."""

import socket
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from boards.device import Device, DeviceError
from hw.link.protocol import HEADER_BYTES, RESULT, SYNC
from tests.boards.small_board import IMAGES, expected


@contextmanager
def between(board, to_board, to_host=lambda data: data):
    """A wire that changes what passes, as a serial port's URL."""
    door = socket.create_server(("localhost", 0))

    def carry(source, sink, change):
        try:
            while data := source.recv(4096):
                sink.sendall(change(data))
        except OSError:
            pass

    def serve():
        host, _ = door.accept()
        wire = socket.create_connection(("localhost", board.port))
        threading.Thread(target=carry, args=(wire, host, to_host), daemon=True).start()
        carry(host, wire, to_board)
        # The other thread still reads from it: closing it alone would not tell the board.
        wire.shutdown(socket.SHUT_RDWR)
        wire.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"socket://localhost:{door.getsockname()[1]}"
    thread.join(5)
    door.close()


def test_a_byte_goes_wrong_on_the_way_there(board):
    """One bit of a frame's payload flips, once: the board refuses the packet, and the next try is right."""
    flips = [True]

    def change(data):
        if len(data) > 40 and flips:
            flips.clear()
            return data[:30] + bytes([data[30] ^ 4]) + data[31:]
        return data

    with between(board, change) as url, Device.open(url, clock=board.seconds) as device:
        before = device.errors().bad_crc
        found = device.classify(IMAGES[1])
        assert (found.answer, found.counts) == expected(IMAGES[1])
        assert (device.resent, device.errors().bad_crc) == (1, before + 1)


def test_an_answer_goes_wrong_on_the_way_back(board):
    """A wrong answer is never taken for right: its checksum fails, and the frame is asked again."""
    opened, seen = [], bytearray()

    def change(data):
        if not opened:
            return data
        start = len(seen)
        seen.extend(data)
        # The first byte of the result's counts, wherever it is cut.
        at = HEADER_BYTES + RESULT.size - start
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if 0 <= at < len(data) else data

    with between(board, lambda data: data, change) as url, Device.open(url, timeout=0.3, clock=board.seconds) as device:
        opened.append(True)
        found = device.classify(IMAGES[2])
        assert (found.answer, found.counts) == expected(IMAGES[2])
        assert device.resent == 1


def test_a_frame_is_cut_off_and_the_next_one_is_right(board):
    cuts = [True]

    def change(data):
        if len(data) > 40 and cuts:
            cuts.clear()
            return data[:25]
        return data

    with between(board, change) as url, Device.open(url, clock=board.seconds) as device:
        before = device.errors().timeout
        found = device.classify(IMAGES[3])
        assert (found.answer, found.counts) == expected(IMAGES[3])
        assert device.errors().timeout == before + 1


def test_noise_before_a_packet(board):
    with socket.create_connection(("localhost", board.port)) as wire:
        wire.sendall(bytes([SYNC]) + bytes(np.random.default_rng(3).integers(0, 256, 3000, dtype=np.uint8)))
    with Device.open(board.url, clock=board.seconds) as device:
        found = device.classify(IMAGES[4])
        assert (found.answer, found.counts) == expected(IMAGES[4])


def test_nothing_is_there():
    with pytest.raises(DeviceError, match=r"^/dev/nothing-here: cannot be opened: "):
        Device.open("/dev/nothing-here")


def test_something_else_is_there():
    """A port that takes everything and says nothing."""
    with socket.create_server(("localhost", 0)) as door:
        url = f"socket://localhost:{door.getsockname()[1]}"
        with pytest.raises(DeviceError, match=r"no answer to identify within 0.2 s, tried 3 times: is the board programmed"):
            Device.open(url, timeout=0.2)
