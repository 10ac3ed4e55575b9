"""The demo's server: one page, and what it asks for. It loads nothing from elsewhere, and answers no other site's pages.

The board gives the answer, the counts and the cycles; the order of the spikes is the golden model's, to which the hardware's is
held equal, and *watch* compares it spike by spike.
"""

import base64
import contextlib
import functools
import hashlib
import io
import json
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from http import HTTPMethod, HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.device import Device
from boards.frames import Frames
from boards.listening import LOOPBACK, url_host
from boards.watched import WatchedSpike
from model.encode import encode
from model.events import input_flushes
from model.golden import Trace, answers, fan_out
from model.machine.plan import Plan
from model.machine.stages import ports
from model.network import INPUT, Network, Neurons
from model.projection import Projection
from model.rest import first_states
from model.support.errors import DeviceError, one_line
from model.support.names import shortened

__all__ = ["CONNECTIONS", "SECONDS", "Demo", "serve"]

PAGE = Path(__file__).parent / "demo.html"

SECONDS = 10.0
"""Seconds within which a request has to be there, and within which its reply has to be taken."""

CONNECTIONS = 32
"""Requests at once; more are refused. A browser has six, of which one may wait for the board."""

_HEAD = 1 << 14
"""Bytes of a request's first line and headers."""

_EMPTY, _ENDS = re.compile(rb"\n\r?\n"), re.compile(rb"\r(?!\n|$)|[\x0b\x0c\x1c-\x1e\x85]")
"""The end of headers, and what ends a line of text, but not one of headers."""

_BYTES_A_PIXEL = 16
"""Of a request: a number of three digits, and what may be between two."""

_REST = 1024
"""Bytes of a request besides its pixels."""

_DISCARDED = 1 << 24
"""Bytes of a request that is refused that are read all the same: one who still sends does not see a reply."""

_PATHS = {"/": HTTPMethod.GET, "/about": HTTPMethod.GET, "/frame": HTTPMethod.GET, "/classify": HTTPMethod.POST}
"""What there is, and how it is asked for."""

_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The policy of what is no page: it loads nothing, and stands in no other page."""

_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""Of every reply; pages of other sites can neither read nor frame it."""


@dataclass
class Demo:
    """What the page asks for.

    Parameters
    ----------
    network : Network
        What is on the board.
    plan : Plan
        What it was built with.
    device : Device
        The board.
    clock_hz : float
        Cycles per second of the board, for microseconds.
    where : str
        The board's name, for the page.
    frames : Frames
        Frames on offer, and their classes where they have any.
    """

    network: Network
    plan: Plan
    device: Device
    clock_hz: float
    where: str
    frames: Frames
    _busy: threading.Lock = field(default_factory=threading.Lock)

    @functools.cached_property
    def about(self) -> dict[str, Any]:
        """The network, the plan and the board."""
        network = self.network
        return {
            "network": network.name,
            "plan": self.plan.name,
            "lanes": self.plan.lanes,
            "where": self.where,
            "clock_mhz": self.clock_hz / 1e6,
            "input": list(network.input_shape),
            "classes": network.outputs,
            "class_names": [self.class_name(number) for number in range(network.outputs)],
            "frames": len(self.frames.images),
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.KIND,
                    "shape": list(shape),
                    "neurons": isinstance(layer, Neurons),
                    "sources": list(layer.sources),
                    "first_counts": first_states(network)[layer.name].count.reshape(-1).tolist(),
                }
                for layer, _, shape in network.walk()
            ],
        }

    def class_name(self, number: int) -> str:
        """Of a class: what the data calls it, or its number."""
        return self.frames.classes[number] if number < len(self.frames.classes) else str(number)

    def frame(self, index: int) -> dict[str, Any]:
        """A frame on offer, and its class; None for a frame without one."""
        images, labels = self.frames.images, self.frames.labels
        at = index % len(images)
        label = None if labels is None else int(labels[at])
        return {"index": at, "label": label, "pixels": images[at].reshape(-1).tolist()}

    def classify(self, pixels: list[int], *, watch: bool = False) -> dict[str, Any]:
        """What the board says of a frame, and every spike of it in order.

        Parameters
        ----------
        pixels : list of int
            The frame in raster order ``(y, x, c)``, each within 0..255.
        watch : bool
            Whether to compare every spike that the board fires, not only its counts.

        Raises
        ------
        ValueError
            If the pixels are too many or too few, or out of range.
        DeviceError
            If the board does not answer, or its answer cannot be one.
        """
        # The golden model's engine takes a second to load; the page does not wait for it.
        from model.engine.engine import run_fast, run_streams
        from model.machine.energy import energy

        shape = self.network.input_shape
        if len(pixels) != shape.size or not all(type(p) is int and 0 <= p <= 255 for p in pixels):
            raise ValueError(f"pixels must be {shape.size} whole numbers within 0..255")
        frame = np.array(pixels, dtype=np.uint8).reshape(tuple(shape))
        # One at a time, the golden model's work too, however many ask.
        with self._busy:
            trace = run_fast(self.network, encode(self.network, frame))
            differs = None
            if watch:
                answer, passed = self.device.observe(frame, self.network, list(ports(self.network)))
                differs = self._differs(trace, passed)
            else:
                answer = self.device.classify(frame)
            spent = energy(self.network, self.plan, run_streams(self.network, frame[None]))
        return {
            "answer": answer.answer,
            "counts": list(answer.counts),
            "equal": (answer.answer, list(answer.counts)) == (trace.answer, trace.counts.tolist()) and not differs,
            "watched": watch,
            "differs": differs,
            "cycles": answer.cycles,
            "microseconds": answer.cycles / self.clock_hz * 1e6,
            "energy_nj": round(sum(core.total_nj for core in spent), 1),
            "accumulations": sum(layer.operations for layer in trace.layers.values()),
            "spikes": sum(len(t.spikes) for t in trace.layers.values() if isinstance(t.layer, Neurons)),
            "input": _listed(trace.events),
            "layers": {name: _listed(layer.spikes) for name, layer in trace.layers.items()},
            "potentials": trace.potentials.tolist(),
            **self._over_time(trace),
        }

    def _over_time(self, trace: Trace) -> dict[str, Any]:
        """Counts and potentials of the classes after each input event, and from when on the answer stays.

        Where the network fires deferred, there is an answer after each flush only.
        """
        events, spikes = len(trace.events), trace.layers[self.network.output.name].spikes
        counts = np.zeros((events + 1, self.network.outputs), dtype=np.int64)
        np.add.at(counts, (spikes["origin"] + 1, spikes["address"]), spikes["sign"])
        counts = first_states(self.network)[self.network.output.name].count.reshape(-1) + counts.cumsum(axis=0)
        at = np.arange(events + 1)
        if self.network.deferred:
            at = np.array([flush.after for flush in input_flushes(trace.events, self.network.flush_events)])
        answer = answers(counts[at])
        other = np.flatnonzero(answer != answer[-1])
        return {
            "counts_over_time": counts.tolist(),
            "potentials_over_time": self._potentials(trace).tolist(),
            "early": int(at[other[-1] + 1 if len(other) else 0]),
        }

    def _potentials(self, trace: Trace) -> npt.NDArray[np.int64]:
        """Membrane potential of each output neuron after each input event, in thresholds and hundredths."""
        layer = self.network.output
        assert isinstance(layer, Neurons)
        taken = trace.layers[layer.name].events
        steps = np.zeros((len(trace.events) + 1, self.network.outputs), dtype=np.int64)
        np.add.at(steps, taken["origin"] + 1, self._output_weights[taken["address"]] * taken["sign"][:, None])
        steps[0] += first_states(self.network)[layer.name].potential.reshape(-1)
        return np.asarray(steps.cumsum(axis=0) * 100 // layer.theta)

    @functools.cached_property
    def _output_weights(self) -> npt.NDArray[np.int64]:
        """What an event at each address of the output layer's sources, one behind the other, adds to each output."""
        layer, output = self.network.output, self.network.shapes[-1]
        inputs = self.network.inputs(layer)
        found = np.zeros((sum(taken.shape.size for taken in inputs), *output), np.int64)
        for taker, source, first in inputs:
            assert isinstance(taker, Projection)
            weights = taker.weights.astype(np.int64)
            for address in range(source.size):
                for rows, columns, channels, W in fan_out(taker, weights, source, output, *source.coordinates(address)):
                    found[first + address, rows, columns, channels] = W
        return found.reshape(len(found), -1)

    def _differs(self, trace: Trace, passed: list[WatchedSpike]) -> str:
        """The first spike that the board fired otherwise than the golden model; empty where there is none."""
        for link in ports(self.network):
            events = trace.events if link == INPUT else trace.layers[link].spikes
            shape = self.network.shape_of(link)
            found = [(shape.address(p.y, p.x, p.c), p.sign) for p in passed if p.link == link]
            wanted = list(zip(events["address"].tolist(), events["sign"].tolist(), strict=True))
            if found != wanted:
                pairs = enumerate(zip(found, wanted, strict=False))
                at = next((n for n, (a, b) in pairs if a != b), min(len(found), len(wanted)))
                return f"{link}, spike {at}: {found[at : at + 1]}, not {wanted[at : at + 1]}"
        return ""


def _listed(events: npt.NDArray[np.void]) -> dict[str, list[int]]:
    return {name: events[name].tolist() for name in ("address", "sign", "origin")}


class _Bounded(io.RawIOBase):
    """What comes from a connection within so many seconds in all, however little comes at a time, and so many bytes.

    What has come is there after that too, so that a busy machine refuses nobody.

    Attributes
    ----------
    left : int
        Bytes that may still come; after them the stream ends.
    short : bool
        Whether more was asked for.
    """

    def __init__(self, connection: socket.socket, seconds: float, most: int) -> None:
        self._connection = connection
        self._until = time.monotonic() + seconds
        self._head = bytearray()
        self.left = most
        self.short = False

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is there into ``buffer``; `TimeoutError` where nothing is, and time is over."""
        if not self.left:
            self.short = True
            return 0
        self._connection.settimeout(max(0.0, self._until - time.monotonic()))
        try:
            read = self._connection.recv_into(memoryview(buffer)[: self.left])
        except BlockingIOError:
            raise TimeoutError from None
        self.left -= read
        if len(self._head) < _HEAD:
            self._head += memoryview(buffer)[:read]
        return read

    @property
    def is_of_lines(self) -> bool:
        """Whether there is an empty line, and none before it holds what Python takes for the end of one."""
        head, *rest = _EMPTY.split(bytes(self._head), maxsplit=1)
        return bool(rest) and _ENDS.search(head) is None


class _Handler(BaseHTTPRequestHandler):
    """Serves the page and what it asks for."""

    server: "_Server"
    # Who says no version gets headers too.
    default_request_version = request_version = "HTTP/1.0"
    command = ""

    def setup(self) -> None:
        """Give the request its time, and its first line and headers their room."""
        super().setup()
        self._incoming = _Bounded(self.connection, self.server.seconds, _HEAD)
        self.rfile = io.BufferedReader(self._incoming)

    def parse_request(self) -> bool:
        """Whether the request is one of this server's page, or of a program on this machine; otherwise it is told."""
        if not self._incoming.short and not super().parse_request():
            return False
        if self._incoming.short:
            # What did not fit is not read.
            return self._refused(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"first line and headers must be at most {_HEAD} bytes"
            )
        if self.headers.defects or self.headers.get_payload() or not self._incoming.is_of_lines:
            # What comes after such a line would not be looked at as others do, such as where the request is from.
            return self._refused(HTTPStatus.BAD_REQUEST, "headers must be lines of a name, a colon and a value")
        hosts, origins = (self.headers.get_all(name, []) for name in ("Host", "Origin"))
        own = self._own_hosts()
        # A site's page whose name was made to mean this address has that name here.
        if len(hosts) != 1 or hosts[0].lower() not in own:
            return self._refused(HTTPStatus.FORBIDDEN, f"Host must be {' or '.join(own)}, not {', '.join(hosts) or 'left out'}")
        # Programs that are no browsers give none.
        if origins and origins != [f"http://{hosts[0].lower()}"]:
            return self._refused(HTTPStatus.FORBIDDEN, f"Origin must be http://{hosts[0]}, not {', '.join(origins)}")
        path = self.path.partition("?")[0]
        method = _PATHS.get(path)
        if method is None:
            return self._refused(HTTPStatus.NOT_FOUND, f"{path}: not found")
        if self.command != method:
            return self._refused(HTTPStatus.METHOD_NOT_ALLOWED, f"{path}: method must be {method}, not {self.command}", method)
        return True

    def _own_hosts(self) -> list[str]:
        """What a browser calls the address that it has reached, with the port."""
        address: Any = ip_address(self.connection.getsockname()[0])
        port = self.server.server_address[1]
        found = [url_host(getattr(address, "ipv4_mapped", None) or address), "localhost"]
        return [f"{name}:{port}" for name in found] + (found if port == 80 else [])

    def do_GET(self) -> None:
        """The page, what is on the board, and frames."""
        path, _, query = self.path.partition("?")
        index = re.fullmatch(r"index=([0-9]{1,9})", query)
        if path == "/":
            self._reply(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8", policy=self.server.policy)
        elif path == "/about":
            self._json(self.server.demo.about)
        elif index:
            self._json(self.server.demo.frame(int(index[1])))
        else:
            self._error(HTTPStatus.NOT_FOUND, f"{path}: index must be a number of at most nine digits")

    def do_POST(self) -> None:
        """A frame to classify: ``{"pixels": [...], "watch": false}``."""
        try:
            asked = self._body()
            if not isinstance(asked, dict) or not isinstance(asked.get("pixels"), list):
                raise ValueError("pixels must be a list of numbers")
            self._json(self.server.demo.classify(asked["pixels"], watch=bool(asked.get("watch"))))
        except ValueError as error:
            self._error(HTTPStatus.BAD_REQUEST, str(error))
        except TimeoutError:
            self._error(HTTPStatus.REQUEST_TIMEOUT, f"a request must be there within {self.server.seconds:g} s")
        except DeviceError as error:
            self._error(HTTPStatus.BAD_GATEWAY, str(error))

    def _body(self) -> Any:
        """The JSON that comes with a request.

        Raises
        ------
        ValueError
            If it is too long, none, or nested too deeply.
        TimeoutError
            If it is not there in time.
        """
        length = self._length()
        if "Transfer-Encoding" in self.headers or not re.fullmatch(r"[0-9]{1,18}", length):
            raise ValueError(f"Content-Length must be a number of bytes, and no Transfer-Encoding there, not {length!r}")
        most = _BYTES_A_PIXEL * self.server.demo.network.input_shape.size + _REST
        if int(length) > most:
            self._discard()
            raise ValueError(f"a frame must take at most {most} bytes, not {length}")
        self._incoming.left += int(length)
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ValueError(f"a request must have the {length} bytes that it says, not {len(body)}")
        try:
            return json.loads(body)
        except RecursionError:
            raise ValueError("a frame must be a list of numbers, not lists within lists") from None
        except ValueError as error:
            raise ValueError(f"a frame must be JSON: {error}") from None

    def _length(self) -> str:
        """The length that the request says; of several, what is no number."""
        return ",".join(self.headers.get_all("Content-Length", []))

    def _discard(self) -> None:
        """Read what belongs to the request, within bounds: one who still sends does not see a reply."""
        length = self._length()
        left = min(int(length), _DISCARDED) if re.fullmatch(r"[0-9]{1,18}", length) else 0
        self._incoming.left += left
        with contextlib.suppress(OSError):
            while left > 0 and (read := len(self.rfile.read(min(left, 1 << 16)))):
                left -= read

    def _refused(self, status: HTTPStatus, message: str, allow: str = "") -> bool:
        if not self._incoming.short:
            self._discard()
        self._error(status, message, **({"Allow": allow} if allow else {}))
        return False

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What `http.server` refuses is told in one line too."""
        self._error(HTTPStatus(code), message or HTTPStatus(code).phrase)

    def _error(self, status: HTTPStatus, message: str, **headers: str) -> None:
        self._json({"error": shortened(one_line(message))}, status, **headers)

    def _json(self, found: dict[str, Any], status: HTTPStatus = HTTPStatus.OK, **headers: str) -> None:
        self._reply(status, json.dumps(found).encode(), "application/json", **headers)

    def _reply(self, status: HTTPStatus, body: bytes, kind: str, *, policy: str = _NOTHING, **headers: str) -> None:
        own = {"Content-Type": kind, "Content-Length": str(len(body)), "Content-Security-Policy": policy}
        self.connection.settimeout(self.server.seconds)
        # Of a version that has no headers too.
        self.request_version = max(self.request_version, "HTTP/1.0")
        with contextlib.suppress(ConnectionError, TimeoutError):
            self.send_response(status)
            for name, value in {**own, **_HEADERS, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != HTTPMethod.HEAD:
                self.wfile.write(body)

    def version_string(self) -> str:
        """What the server says that it is: no versions."""
        return "Tally"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Stay quiet."""

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


class _Server(ThreadingHTTPServer):
    """A thread for each request, up to a bound."""

    def __init__(self, demo: Demo, address: str, port: int, seconds: float) -> None:
        self.address_family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
        self.demo, self.seconds = demo, seconds
        self.page = PAGE.read_bytes()
        self.policy = _policy(self.page)
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__((address, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a request in a thread of its own; where there are too many, end it."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a request."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


def _policy(page: bytes) -> str:
    """What the page may do: its own script and its own style, and nothing but ask this server."""
    own = {
        kind: " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in found)
        for kind in ("script", "style")
        for found in [re.findall(rf"<{kind}>(.*?)</{kind}>".encode(), page, re.DOTALL)]
    }
    return f"{_NOTHING}; script-src {own['script']}; style-src {own['style']}; img-src data:; connect-src 'self'"


def serve(demo: Demo, port: int, *, address: str = LOOPBACK, seconds: float = SECONDS) -> ThreadingHTTPServer:
    """A server of the page, not yet running.

    Parameters
    ----------
    demo : Demo
        What it serves.
    port : int
        TCP port; 0 takes one that is free.
    address : str
        Where it listens: on this machine alone by default.
    seconds : float
        How long a request, and the taking of its reply, may take.
    """
    return _Server(demo, address, port, seconds)
