"""`python -m boards.demo`: draw a digit, and see spikes become an answer on a board, or on a virtual one.

Serves one page on this machine, which loads nothing from elsewhere. The board gives the answer, the counts and the cycles; the
order of the spikes is the golden model's, to which the hardware's is held equal, and *watch* compares it spike by spike.
"""

import contextlib
import json
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console

from boards.definitions import board_named
from boards.host import Device, DeviceError
from boards.top import BAUD
from boards.virtual import VirtualBoard
from hw.build import chosen_for
from model.encode import encode
from model.engine.engine import run_fast, run_streams
from model.golden import Trace, answers
from model.machine.energy import energy
from model.machine.named_plans import load_plan
from model.machine.plan import Plan
from model.machine.stages import ports
from model.network import INPUT, Network, Neurons
from model.support.cli import command
from model.support.errors import Exit, fail
from model.support.frames import real_frames

__all__ = ["Demo", "serve"]

PAGE = Path(__file__).parent / "demo.html"

DIGITS = 200
"""Real digits on offer."""


@dataclass
class Demo:
    """What the page asks for.

    Parameters
    ----------
    network, plan : what is on the board
    device : the board
    clock_hz : of the board, for microseconds
    where : the board's name, for the page
    images, labels : real frames on offer, and their classes
    """

    network: Network
    plan: Plan
    device: Device
    clock_hz: float
    where: str
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
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
            "digits": len(self.images),
            "layers": [
                {"name": layer.name, "kind": layer.KIND, "shape": list(shape), "neurons": isinstance(layer, Neurons)}
                for layer, _, shape in network.walk()
            ],
        }

    def digit(self, index: int) -> dict[str, Any]:
        """A real frame and its class."""
        at = index % len(self.images)
        return {"index": at, "label": int(self.labels[at]), "pixels": self.images[at].reshape(-1).tolist()}

    def classify(self, pixels: list[int], *, watch: bool = False) -> dict[str, Any]:
        """What the board says of a frame, and every spike of it in order.

        Raises
        ------
        ValueError : the pixels
        DeviceError : the board
        """
        shape = self.network.input_shape
        if len(pixels) != shape.size or not all(isinstance(p, int) and 0 <= p <= 255 for p in pixels):
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
            "equal": list(answer.counts) == trace.counts.tolist() and not differs,
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
        """Counts and potentials of the classes behind each input event, and from when on the answer stays."""
        events, spikes = len(trace.events), trace.layers[self.network.output.name].spikes
        counts = np.zeros((events + 1, self.network.outputs), dtype=np.int64)
        np.add.at(counts, (spikes["origin"] + 1, spikes["address"]), spikes["sign"])
        counts = counts.cumsum(axis=0)
        answer = answers(counts)
        other = np.flatnonzero(answer != answer[-1])
        return {
            "counts_over_time": counts.tolist(),
            "potentials_over_time": self._potentials(trace).tolist(),
            "early": int(other[-1]) + 1 if len(other) else 0,
        }

    def _potentials(self, trace: Trace) -> npt.NDArray[np.int64]:
        """Membrane potential of each output neuron behind each input event, in thresholds and hundredths."""
        layer = self.network.output
        assert isinstance(layer, Neurons)
        taken = trace.layers[layer.name].events
        weights = layer.weights.reshape(layer.channels, -1).astype(np.int64)
        steps = np.zeros((len(trace.events) + 1, layer.channels), dtype=np.int64)
        np.add.at(steps, taken["origin"] + 1, weights[:, taken["address"]].T * taken["sign"][:, None])
        steps[0] += layer.bias
        return np.asarray(steps.cumsum(axis=0) * 100 // layer.theta)

    def _differs(self, trace: Trace, passed: list[Any]) -> str:
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


class _Handler(BaseHTTPRequestHandler):
    """Serves the page and what it asks for."""

    demo: Demo

    def do_GET(self) -> None:
        """The page, what is on the board, and digits."""
        path, _, query = self.path.partition("?")
        if path == "/":
            self._reply(HTTPStatus.OK, PAGE.read_bytes(), "text/html; charset=utf-8")
        elif path == "/about":
            self._json(self.demo.about())
        elif path == "/digit" and query.removeprefix("index=").isdigit():
            self._json(self.demo.digit(int(query.removeprefix("index="))))
        else:
            self._json({"error": f"{path}: not found"}, HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """A frame to classify: ``{"pixels": [...], "watch": false}``."""
        if self.path != "/classify":
            self._json({"error": f"{self.path}: not found"}, HTTPStatus.NOT_FOUND)
            return
        try:
            size = int(self.headers.get("Content-Length", 0))
            if size > 1 << 20:
                raise ValueError("a frame must take less than a megabyte")
            asked = json.loads(self.rfile.read(size))
            if not isinstance(asked, dict) or not isinstance(asked.get("pixels"), list):
                raise ValueError("pixels must be a list of numbers")
            self._json(self.demo.classify(asked["pixels"], watch=bool(asked.get("watch"))))
        except ValueError as error:
            self._json({"error": str(error)}, HTTPStatus.BAD_REQUEST)
        except DeviceError as error:
            self._json({"error": str(error)}, HTTPStatus.BAD_GATEWAY)

    def _json(self, found: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._reply(status, json.dumps(found).encode(), "application/json")

    def _reply(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


def serve(demo: Demo, port: int) -> ThreadingHTTPServer:
    """A server of the page on this machine, not yet running; ``port`` 0 takes one that is free."""
    return ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"demo": demo}))


def _terminal(demo: Demo, console: Console, ask: Callable[[], str]) -> None:
    """Digits and their answers, as text."""
    shades = " .:-=+*#%@"
    index = 0
    while True:
        digit = demo.digit(index)
        frame = np.array(digit["pixels"]).reshape(tuple(demo.network.input_shape))[:, :, 0]
        found = demo.classify(digit["pixels"])
        for line in frame[::2] if frame.shape[0] > 14 else frame:
            console.print("".join(shades[int(p) * (len(shades) - 1) // 255] for p in line), markup=False, highlight=False)
        least, most = min(found["counts"]), max(found["counts"])
        for number, count in enumerate(found["counts"]):
            bar = "#" * round((count - least) / max(1, most - least) * 40)
            mark = "  <- answer" if number == found["answer"] else ""
            console.print(f"{number}: {count:5d} {bar}{mark}", markup=False, highlight=False)
        console.print(
            f"a {digit['label']}; {found['cycles']:,} cycles, {found['microseconds']:.1f} microseconds; {found['spikes']:,} "
            f"spikes, {found['accumulations']:,} accumulations; the answer stays from input event {found['early']} of "
            f"{len(found['input']['address'])}; {'equal to' if found['equal'] else 'DIFFERS FROM'} the golden model",
            highlight=False,
        )
        typed = ask()
        if typed.strip().lower() in ("q", "quit"):
            return
        index = int(typed) if typed.strip().isdigit() else index + 1


@command(help="Draw digits for a board, in a browser or in the terminal; without --port the board is virtual.")
@click.option("--port", metavar="PORT", help="Serial port of a board, or its URL.")
@click.option("--board", "board_name", default="ulx3s-85f", show_default=True, metavar="BOARD", help="Which board it is.")
@click.option("--net", type=click.Path(path_type=Path), help="Network (.npz) on the board; the bundled one for it by default.")
@click.option("--plan", "plan_name", help="minimal, default, fast, folded, or a .json file; the board's by default.")
@click.option("--baud", default=BAUD, show_default=True, type=click.IntRange(9600), help="Bits a second of the port.")
@click.option("--clock", "clock_mhz", type=click.FloatRange(0, min_open=True), help="In MHz; what the board says by default.")
@click.option("--http", "http_port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port of the page.")
@click.option("--terminal", is_flag=True, help="Text in place of the page.")
@click.option("--no-browser", is_flag=True, help="Do not open the page.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="First folder to look for the MNIST files in.")
def main(
    port: str | None,
    board_name: str,
    net: Path | None,
    plan_name: str | None,
    baud: int,
    clock_mhz: float | None,
    http_port: int,
    terminal: bool,
    no_browser: bool,
    data_dir: Path | None,
) -> None:
    """See the help text above."""
    console = Console()
    with contextlib.ExitStack() as stack:
        kind = board_named(board_name)
        net, own_plan = chosen_for(kind, net, plan_name)
        network = Network.load(net)
        plan = load_plan(network, own_plan)
        images, labels, _ = real_frames(network, None, data_dir, DIGITS)
        if port is None:
            with console.status("virtual board") as status:
                board = stack.enter_context(VirtualBoard.of(kind, network, plan, flash=True, tell=status.update))
        device = stack.enter_context(Device.open(port or board.url, baud=baud, timeout=5 if port else 60))
        device.require(network)
        plan = device.identity.plan(network, plan_name) if port else plan
        device.require(network, plan)
        if not device.loaded(network, plan):
            with console.status("loading weights"):
                device.load(network, plan)
        where = port or f"virtual {kind.title} (Verilator)"
        clock_hz = clock_mhz * 1e6 if clock_mhz else device.identity.clock_hz
        demo = Demo(network, plan, device, clock_hz, where, images, labels)
        if terminal:
            console.print("return: the next digit; a number: that digit; q: the end")
            with contextlib.suppress(EOFError, KeyboardInterrupt):
                _terminal(demo, console, input)
            return
        try:
            server = stack.enter_context(serve(demo, http_port))
        except OSError as error:
            fail(Exit.BAD_INPUT, f"--http {http_port}: {error.strerror}; 0 takes a port that is free")
        url = f"http://localhost:{server.server_address[1]}/"
        console.print(f"{network.name} on {where}: {url} (Ctrl-C ends)")
        if not no_browser:
            webbrowser.open(url)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
