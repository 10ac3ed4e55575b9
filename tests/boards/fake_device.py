"""A device without hardware (`boards.fuzzing.fake_device`) in the place of whatever port is opened, or behind a TCP port."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from boards.fuzzing.fake_device import FakeDevice, FakePort, host_packets

__all__ = ["FakeDevice", "FakePort", "connected", "host_packets", "served"]


def connected(monkeypatch, device: FakeDevice, *, patience: float = 200.0) -> FakePort:
    """Whatever port is opened now leads to ``device``; more than ``patience`` virtual seconds of waiting are an error."""
    port = FakePort(device, patience=patience)
    monkeypatch.setattr("boards.wire.serial.serial_for_url", lambda *args, **options: port)
    monkeypatch.setattr("boards.wire.time", port.clock())
    monkeypatch.setattr("boards.exchange.time", port.clock())
    return port


@contextmanager
def served(device: FakeDevice) -> Iterator[str]:
    """The device behind a TCP port, for one host after the other; gives its URL."""
    listening = socket.create_server(("localhost", 0))

    def serve() -> None:
        while True:
            try:
                host, _ = listening.accept()
            except OSError:
                return
            kept = bytearray()
            try:
                with host:
                    while data := host.recv(4096):
                        kept += data
                        for asked in host_packets(kept):
                            for piece in device.answers(*asked):
                                host.sendall(piece)
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"socket://localhost:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
