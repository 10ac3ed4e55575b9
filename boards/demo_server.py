"""The demo's server: one page, and what it asks for. It loads nothing from elsewhere, and listens to this machine only.

The board gives the answer, the counts and the cycles; the order of the spikes is the golden model's, to which the hardware's is
held equal, and *watch* compares it spike by spike.
"""

import contextlib
import functools
import io
import json
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.device import Device
from boards.frames import Frames
from boards.watched import WatchedSpike
from model.encode import encode
from model.events import input_flushes
from model.golden import Trace, answers, fan_out
from model.machine.plan import Plan
from model.machine.stages import ports
from model.network import INPUT, Network, Neurons
from model.projection import Projection
from model.rest import first_states
from model.support.errors import DeviceError

__all__ = ["SECONDS", "Demo", "serve"]

PAGE = Path(__file__).parent / "demo.html"

SECONDS = 10.0
"""Seconds within which a request has to be there, and within which its reply has to be taken."""

_BYTES_A_PIXEL = 16
"""Of a request: a number of three digits, and what may be between two."""

_REST = 1024
"""Bytes of a request besides its pixels."""

_DISCARDED = 1 << 24
"""Bytes of a request that is too long that are read all the same: one who still sends does not see a reply."""


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
        trace = run_fast(self.network, encode(self.network, frame))
        with self._busy:
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


class _Timed(io.RawIOBase):
    """What comes from a connection within so many seconds in all, however little comes at a time.

    What has come is there after that too, so that a busy machine refuses nobody; how much it may be is for others to bound.
    """

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._until = time.monotonic() + seconds

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is there into ``buffer``; `TimeoutError` where nothing is, and time is over."""
        self._connection.settimeout(max(0.0, self._until - time.monotonic()))
        try:
            return self._connection.recv_into(buffer)
        except BlockingIOError:
            raise TimeoutError from None


class _Handler(BaseHTTPRequestHandler):
    """Serves the page and what it asks for."""

    demo: Demo
    seconds: float

    def setup(self) -> None:
        """Give the request its time."""
        super().setup()
        self.rfile = io.BufferedReader(_Timed(self.connection, self.seconds))

    def do_GET(self) -> None:
        """The page, what is on the board, and frames."""
        path, _, query = self.path.partition("?")
        index = re.fullmatch(r"index=([0-9]{1,9})", query)
        if path == "/":
            self._reply(HTTPStatus.OK, PAGE.read_bytes(), "text/html; charset=utf-8")
        elif path == "/about":
            self._json(self.demo.about())
        elif path == "/frame" and index:
            self._json(self.demo.frame(int(index[1])))
        else:
            self._error(HTTPStatus.NOT_FOUND, f"{path}: not found")

    def do_POST(self) -> None:
        """A frame to classify: ``{"pixels": [...], "watch": false}``."""
        if self.path != "/classify":
            self._error(HTTPStatus.NOT_FOUND, f"{self.path}: not found")
            return
        try:
            asked = self._body()
            if not isinstance(asked, dict) or not isinstance(asked.get("pixels"), list):
                raise ValueError("pixels must be a list of numbers")
            self._json(self.demo.classify(asked["pixels"], watch=bool(asked.get("watch"))))
        except ValueError as error:
            self._error(HTTPStatus.BAD_REQUEST, str(error))
        except TimeoutError:
            self._error(HTTPStatus.REQUEST_TIMEOUT, f"a request must be there within {self.seconds:g} s")
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
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,18}", length):
            raise ValueError(f"Content-Length must be a number of bytes, not {length!r}")
        most = _BYTES_A_PIXEL * self.demo.network.input_shape.size + _REST
        if int(length) > most:
            self._discard(int(length))
            raise ValueError(f"a frame must take at most {most} bytes, not {length}")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ValueError(f"a request must have the {length} bytes that it says, not {len(body)}")
        try:
            return json.loads(body)
        except RecursionError:
            raise ValueError("a frame must be a list of numbers, not lists within lists") from None
        except ValueError as error:
            raise ValueError(f"a frame must be JSON: {error}") from None

    def _discard(self, size: int) -> None:
        left = min(size, _DISCARDED)
        with contextlib.suppress(OSError):
            while left > 0 and (read := len(self.rfile.read(min(left, 1 << 16)))):
                left -= read

    def _error(self, status: HTTPStatus, message: str) -> None:
        self._json({"error": " ".join(message.split())}, status)

    def _json(self, found: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._reply(status, json.dumps(found).encode(), "application/json")

    def _reply(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.connection.settimeout(self.seconds)
        with contextlib.suppress(ConnectionError, TimeoutError):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


def serve(demo: Demo, port: int, *, seconds: float = SECONDS) -> ThreadingHTTPServer:
    """A server of the page on this machine, not yet running.

    Parameters
    ----------
    demo : Demo
        What it serves.
    port : int
        TCP port; 0 takes one that is free.
    seconds : float
        How long a request, and the taking of its reply, may take.
    """
    return ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"demo": demo, "seconds": seconds}))
