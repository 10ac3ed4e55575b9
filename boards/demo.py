"""`python -m boards.demo`: draw a digit or drop an image, and see spikes become an answer on a board, or on a virtual one."""

from __future__ import annotations

import contextlib
import json
import re
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boards.choices import BAUD
from boards.listening import listen_option, tell_reach, url_host
from model.support.cli import FilePath, FolderPath, Number, command, doing, make_console
from model.support.errors import Exit, fail

if TYPE_CHECKING:
    from rich.console import Console

    from boards.demo_server import Demo
    from boards.device import Device
    from model.machine.plan import Plan
    from model.network import Network

__all__ = ["main"]

FRAMES = 200
"""Frames on offer."""

_BOARD = "ulx3s-85f"
"""What the virtual board stands for where none is named."""


def _terminal(demo: Demo, console: Console, ask: Callable[[], str], *, as_json: bool) -> None:
    """Frames and their answers, as text, until the end is asked for."""
    index = 0
    while True:
        frame = demo.frame(index)
        found = demo.classify(frame["pixels"])
        if as_json:
            print(json.dumps(_summary(frame, found)), flush=True)
        else:
            _draw(demo, console, frame, found)
        typed = ask().strip()
        if typed.lower() in ("q", "quit"):
            return
        index = int(typed) if re.fullmatch("[0-9]{1,9}", typed) else index + 1


def _summary(frame: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What was found of a frame, without its spikes."""
    names = ("answer", "counts", "equal", "cycles", "microseconds", "energy_nj", "accumulations", "spikes")
    return {
        "frame": frame["index"],
        "label": frame["label"],
        **{name: found[name] for name in names},
        "input_events": len(found["input"]["address"]),
        "answer_stays_from_input_event": found["early"],
    }


def _draw(demo: Demo, console: Console, frame: dict[str, Any], found: dict[str, Any]) -> None:
    """A frame, the counts of its classes, and what it took."""
    import numpy as np

    shades = " .:-=+*#%@"
    grey = np.array(frame["pixels"]).reshape(tuple(demo.network.input_shape)).mean(axis=2)
    for line in grey[::2] if grey.shape[0] > 14 else grey:
        console.print("".join(shades[int(p) * (len(shades) - 1) // 255] for p in line), highlight=False)
    least, most = min(found["counts"]), max(found["counts"])
    width = max(len(demo.class_name(number)) for number in range(len(found["counts"])))
    for number, count in enumerate(found["counts"]):
        bar = "#" * round((count - least) / max(1, most - least) * 40)
        mark = "  <- answer" if number == found["answer"] else ""
        console.print(f"{demo.class_name(number):>{width}}: {count:5d} {bar}{mark}", highlight=False)
    said = "" if frame["label"] is None else f"a {demo.class_name(frame['label'])}; "
    console.print(
        f"{said}{found['cycles']:,} cycles, {found['microseconds']:.1f} microseconds; {found['spikes']:,} "
        f"spikes, {found['accumulations']:,} accumulations; the answer stays from input event {found['early']} of "
        f"{len(found['input']['address'])}; {'equal to' if found['equal'] else 'DIFFERS FROM'} the golden model",
        highlight=False,
    )


@dataclass(frozen=True)
class _Wanted:
    """What the demo is asked to show."""

    port: str | None
    board: str | None
    net: Path | None
    plan: str | None
    baud: int
    dataset: str | None
    data_dir: Path | None


def _on_board(wanted: _Wanted, stack: contextlib.ExitStack) -> tuple[Network, Plan, Device, str]:
    """Network, plan and device at a serial port, and the port: the device says what it is."""
    from boards.bundled import network_on
    from boards.device import Device

    if wanted.board:
        fail(Exit.BAD_INPUT, "--board must not be given with --port: the device says what is on it")
    assert wanted.port is not None
    device = stack.enter_context(Device.open(wanted.port, baud=wanted.baud))
    network = network_on(device, wanted.net)
    plan = device.identity.plan(network, wanted.plan)
    device.require(network, plan)
    return network, plan, device, wanted.port


def _on_virtual_board(
    wanted: _Wanted, stack: contextlib.ExitStack, console: Console
) -> tuple[Network, Plan, Device, str]:
    """Network, plan and device of a virtual board, which starts, and its name."""
    # Amaranth and the simulators are only needed here.
    from boards.bundled import chosen_for
    from boards.definitions import board_named
    from boards.device import Device
    from boards.virtual_board import VirtualBoard
    from model.machine.named_plans import load_plan
    from model.network import Network

    kind = board_named(wanted.board or _BOARD)
    net, plan_name = chosen_for(kind, wanted.net, wanted.plan)
    network = Network.load(net)
    plan = load_plan(network, plan_name)
    with doing(console, "virtual board") as say:
        board = stack.enter_context(VirtualBoard.of(kind, network, plan, flash=True, tell=say))
    device = stack.enter_context(Device.open(board.url, timeout=60, clock=board.seconds))
    device.require(network, plan)
    return network, plan, device, f"virtual {kind.title} (Verilator)"


@command(
    help="Draw digits for a board, or drop images, in a browser, or take frames in the terminal; without --port the board is "
    "virtual. NET is the network (.npz) on the board; the bundled one for it by default."
)
@click.option("--port", metavar="PORT", help="Serial port of a board, or its URL.")
@click.option("--board", metavar="BOARD", help=f"Board to simulate; {_BOARD} by default.")
@click.argument("net", required=False, type=FilePath())
@click.option("--plan", help="minimal, default, fast, folded, or a .json file; the board's by default.")
@click.option("--baud", default=BAUD, show_default=True, type=click.IntRange(9600), help="Bits per second of the port.")
@click.option(
    "--clock", "clock_mhz", type=Number(0, min_open=True), help="Clock in MHz; what the board says by default."
)
@click.option("--http", "http_port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port of the page.")
@listen_option
@click.option("--terminal", is_flag=True, help="Use the terminal instead of the page.")
@click.option("--json", "as_json", is_flag=True, help="With --terminal: a line of JSON for each frame.")
@click.option("--no-browser", is_flag=True, help="Do not open the page.")
@click.option("--dataset", metavar="DATA", help="Frames to offer: mnist, digits5k, cifar10 or an .npz file; digits by default.")
@click.option("--data-dir", type=FolderPath(), help="First folder to look for the files of MNIST and CIFAR-10 in.")
def main(
    clock_mhz: float | None, http_port: int, listen: str, terminal: bool, as_json: bool, no_browser: bool, **wanted: Any
) -> None:
    """See the help text above."""
    from boards.demo_server import Demo
    from boards.frames import frames_for

    # What goes on must not be among the JSON.
    console = make_console(stderr=as_json)
    if as_json and not terminal:
        fail(Exit.BAD_INPUT, "--json must be given with --terminal")
    with contextlib.ExitStack() as stack:
        asked = _Wanted(**wanted)
        if asked.port:
            network, plan, device, where = _on_board(asked, stack)
        else:
            network, plan, device, where = _on_virtual_board(asked, stack, console)
        offered = frames_for(network, asked.dataset, asked.data_dir, None)
        if not device.loaded(network, plan):
            with doing(console, "loading weights"):
                device.load(network, plan)
        clock_hz = clock_mhz * 1e6 if clock_mhz else device.identity.clock_hz
        labels = None if offered.labels is None else offered.labels[:FRAMES]
        frames = replace(offered, images=offered.images[:FRAMES], labels=labels)
        demo = Demo(network, plan, device, clock_hz, where, frames)
        if terminal:
            console.print(f"{frames.name}; return: the next one; a number: that one; q: the end", highlight=False)
            with contextlib.suppress(EOFError, KeyboardInterrupt):
                _terminal(demo, console, input, as_json=as_json)
            return
        _serve(demo, listen, http_port, console, browser=not no_browser)


def _serve(demo: Demo, listen: str, http_port: int, console: Console, *, browser: bool) -> None:
    """Serve the page until Ctrl-C."""
    from boards.demo_server import serve

    try:
        server = serve(demo, http_port, address=listen)
    except OSError as error:
        fail(Exit.BAD_INPUT, f"--listen {listen} --http {http_port}: {error.strerror}; --http 0 takes a port that is free")
    with server:
        tell_reach(listen)
        url = f"http://{url_host(listen)}:{server.server_address[1]}/"
        console.print(f"{demo.network.name} on {demo.where}: {url} (Ctrl-C ends)")
        if browser:
            webbrowser.open(url)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
