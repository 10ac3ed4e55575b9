"""Fuzzing of the demo: requests to its server, whose connections are in memory; the board behind it is honest."""

import io
import json
import random
import re
from email import message_from_bytes
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np

from boards.demo_server import PAGE, Demo, serve
from boards.device import Device
from boards.frames import Frames
from boards.fuzzing.fake_device import FakeDevice, FakePort
from boards.wire import Wire
from model.encode import encode
from model.engine.engine import run_fast
from model.machine.named_plans import named_plan
from model.network import Network
from sim.fuzzing.mutations import NUMBERS, TEXTS, edited_json, noisy
from sim.fuzzing.targets import RefusedError, Target, WrongError
from sim.generators.networks import random_network

__all__ = ["TARGET"]

_PORT = 8000
_ADDRESS = "127.0.0.1"
_OWN = (f"{_ADDRESS}:{_PORT}", f"localhost:{_PORT}")

_REFUSALS = (
    *(HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED),
    *(HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, HTTPStatus.REQUEST_URI_TOO_LONG),
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
)
"""What a request may be refused with. The board is honest: none of 500 or above but an unknown version."""

_MOST_LINE = 1100


class _Connection:
    """A connection that brings a request, and ends or stands still then; keeps what is sent back."""

    def __init__(self, content: bytes, *, ends: bool) -> None:
        self._content, self._ends = io.BytesIO(content), ends
        self.sent = bytearray()

    def settimeout(self, seconds: float | None) -> None:
        """Nothing waits."""

    def setsockopt(self, *options: Any) -> None:
        """It has none."""

    def getsockname(self) -> tuple[str, int]:
        """Where it came in."""
        return _ADDRESS, _PORT

    def makefile(self, *options: Any) -> io.BytesIO:
        """What the handler replaces by its own."""
        return io.BytesIO()

    def recv_into(self, buffer: memoryview) -> int:
        """What comes next; where it stands still, a time-out."""
        found = self._content.readinto(buffer)
        if not found and not self._ends:
            raise TimeoutError
        return found

    def sendall(self, data: bytes) -> None:
        """Keep what is sent."""
        self.sent += data


@cache
def _network() -> Network:
    return random_network(2)


@cache
def _server() -> Any:
    """The demo's server, whose socket nobody uses."""
    network = _network()
    plan = named_plan(network, "minimal")
    images = np.random.default_rng(0).integers(0, 256, (3, *network.input_shape), dtype=np.uint8)
    port = FakePort(FakeDevice(network, plan), patience=float("inf"))
    device = Device(Wire(port, "fake", timeout=1.0, clock=lambda: port.now), timeout=1.0)
    server = serve(Demo(network, plan, device, 60e6, "fake board", Frames(images, np.array([0, 1, 2]), "frames")), 0)
    server.socket.close()
    server.server_address = (_ADDRESS, _PORT)
    return server


def _request(line: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([line, f"Host: {_OWN[0]}", *headers, "", ""]).encode() + body


@cache
def _seeds() -> tuple[bytes, ...]:
    images = _server().demo.frames.images
    posts = []
    for watch in (False, True):
        body = json.dumps({"pixels": images[0].reshape(-1).tolist(), "watch": watch}).encode()
        posts.append(_request("POST /classify HTTP/1.1", f"Content-Length: {len(body)}", f"Origin: http://{_OWN[0]}", body=body))
    return (
        *posts,
        _request("GET / HTTP/1.1"),
        _request("GET /about HTTP/1.0"),
        _request("GET /frame?index=2 HTTP/1.1", "Accept: */*", "Connection: keep-alive"),
        _request("GET /about HTTP/1.1").replace(_OWN[0].encode(), _OWN[1].encode()),
    )


_METHODS = ("GET", "POST", "PUT", "HEAD", "OPTIONS", "TRACE", "CONNECT", "DELETE", "get", "", "G" * 70_000, "PRI")
_PATHS = (
    *("/", "/about", "/frame", "/classify", "/frame?index=1", "/frame?index=999999999", "/frame?index=-1", "/frame?index=1e9"),
    *("/frame?index=\u0661", "/../etc/passwd", "http://127.0.0.1:8000/about", "/about?x", "*", "/%2e%2e", "/about#x", "//"),
    "/\x1b[31m",
    "/" + "a" * 70_000,
)
_VERSIONS = (
    *("HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1", "HTTP/1.1.1", "HTTP/99999.1", "http/1.1", "HTTP/-1.0", ""),
    "HTTP/1.\u0661",
)
_HEADERS = (
    *("Host: evil.example", f"Host: {_OWN[1]}", f"HOST: {_OWN[0].upper()}", "Host:", f"Host: {_OWN[0]} ", f" Host: {_OWN[0]}"),
    *("Origin: http://evil.example", "Origin: null", f"Origin: http://{_OWN[0]}", "Transfer-Encoding: chunked"),
    "Expect: 100-continue",
    *("Connection: keep-alive", "Connection: Upgrade", "Upgrade: websocket", "Content-Length: 5", "Content-Length: -1", "X: \0"),
    *("Content-Length: 999999999999999999", "Content-Length: 9" + "9" * 30, "Content-Length: 0x10", "Content-Length: +5"),
    "no colon",
    *("Content-Length: \u0665", "Content-Length: 16777217", "Cookie: " + "c" * 17_000, ": x", "X: \x1b]0;own\x07", "\tfolded"),
)


def _mutated(content: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.15:
        return noisy(content, chance)
    head, gap, body = content.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    for _ in range(chance.choice((1, 1, 2, 3))):
        kind = chance.random()
        at = chance.randrange(len(lines))
        if kind < 0.2:
            words = [*lines[0].decode("latin1").split(" "), "", "", ""][:3]
            place = chance.randrange(3)
            words[place] = chance.choice((_METHODS, _PATHS, _VERSIONS)[place])
            lines[0] = " ".join(words).encode()
        elif kind < 0.4:
            line = chance.choice((*_HEADERS, f"X: {chance.choice(TEXTS)}"))
            lines.insert(chance.randint(1, len(lines)), line.encode(errors="replace"))
        elif kind < 0.5:
            lines[at] = noisy(lines[at], chance)
        elif kind < 0.55:
            del lines[at]
            lines = lines or [b""]
        elif kind < 0.6:
            lines.extend([lines[at]] * chance.choice((1, 1, 200)))
        elif kind < 0.65:
            gap = chance.choice((b"\n\n", b"\r\n", b"", b"\r\n\r\n\r\n"))
        elif body:
            body = edited_json(body, chance) if chance.random() < 0.8 else noisy(body, chance)
            if chance.random() < 0.85:
                lines = [f"Content-Length: {len(body)}".encode() if n.startswith(b"Content-Length") else n for n in lines]
        else:
            lines[0] = lines[0].replace(b"index=2", f"index={chance.choice(NUMBERS)}".encode())
    return b"\r\n".join(lines) + gap + body


def _read(content: bytes, folder: Path) -> str:
    server = _server()
    # As the bytes say, so that it is the same each time.
    connection = _Connection(content, ends=sum(content) % 2 == 0)
    server.RequestHandlerClass(connection, (_ADDRESS, 50_000), server)
    if not connection.sent:
        raise RefusedError("the connection is closed", kind="no reply")
    head, gap, body = bytes(connection.sent).partition(b"\r\n\r\n")
    found = re.fullmatch(rb"HTTP/1\.[01] (\d{3}) [A-Za-z -]+", head.partition(b"\r\n")[0])
    if not gap or found is None:
        raise WrongError(f"a reply must begin with a status, not {head[:100]!r}")
    headers = message_from_bytes(head.partition(b"\r\n")[2])
    is_head = content[:5] == b"HEAD "
    if headers["Content-Length"] != str(len(body)) and not is_head:
        raise WrongError(f"a reply's length must be that of its body, {len(body)}, not {headers['Content-Length']}")
    if not headers["Content-Security-Policy"] or headers["X-Content-Type-Options"] != "nosniff":
        raise WrongError(f"a reply must say what it may do, not {head!r}")
    status = int(found[1])
    if status != HTTPStatus.OK:
        _check_refusal(status, body, is_head)
    return _check_reply(content, body)


def _check_refusal(status: int, body: bytes, is_head: bool) -> None:
    """A refusal is one line, of a status that there may be; raises it."""
    if status not in _REFUSALS:
        raise WrongError(f"a request must be refused with one of {', '.join(map(str, map(int, _REFUSALS)))}, not {status}")
    if is_head and not body:
        raise RefusedError("no body", kind=f"status {status}")
    message = json.loads(body)["error"]
    if not message or not message.isprintable() or len(message) > _MOST_LINE:
        raise WrongError(f"a refusal must be a line, not {message[:2000]!r}")
    raise RefusedError(message, kind=f"status {status}")


def _check_reply(content: bytes, body: bytes) -> str:
    """A request that is answered is the demo's own page's, or a program's; its answer is right."""
    head, *more = re.split(rb"(?<=\n)\r?\n", content, maxsplit=1)
    if not more:
        raise WrongError("a request whose headers do not end must be refused")
    lines = re.split(r"\r?\n", head.decode("latin1"))
    fields = [(name.lower(), value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines[1:])]
    hosts = [value.lower() for name, value in fields if name == "host"]
    if len(hosts) != 1 or hosts[0] not in _OWN:
        raise WrongError(f"a request whose Host is {hosts} must be refused")
    if any(value != f"http://{hosts[0]}" for name, value in fields if name == "origin"):
        raise WrongError("a request of another site's page must be refused")
    # Several slashes at the beginning are one.
    path = re.sub("^/+", "/", lines[0].split()[1].partition("?")[0])
    demo = _server().demo
    if path == "/":
        if body != PAGE.read_bytes():
            raise WrongError("the page must be the demo's")
        return "the page"
    found = json.loads(body)
    if path == "/about":
        if found != json.loads(json.dumps(demo.about)):
            raise WrongError("what is said of the board must be the demo's")
        return "about"
    if path == "/frame":
        if found != demo.frame(found["index"]):
            raise WrongError("a frame must be the demo's")
        return "a frame"
    length = int(next(value for name, value in fields if name == "content-length"))
    pixels = json.loads(more[0][:length])["pixels"]
    frame = np.array(pixels, np.uint8).reshape(tuple(_network().input_shape))
    trace = run_fast(_network(), encode(_network(), frame))
    if not found["equal"] or (found["answer"], found["counts"]) != (trace.answer, trace.counts.tolist()):
        raise WrongError(f"a frame's answer must be the golden model's, {trace.answer}, not {found['answer']}")
    return "a frame's answer, as the golden model's"


TARGET = Target(name="http", ending=".txt", seeds=_seeds, mutated=_mutated, read=_read)
