"""`python -m boards.host`: a board from the host's side, over any serial port."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boards.choices import BAUD
from model.support.cli import FilePath, FolderPath, Number, OutFolder, group, make_console, make_table, progress_bar
from model.support.errors import BadInputError, Exit, WeightsDifferError, fail
from model.support.files import write_file

if TYPE_CHECKING:
    from rich.progress import Progress

    from boards.device import Device
    from model.network import Network

__all__ = ["main"]

# The golden model's engine takes a second to load. Commands that need none of it (identify, status, reset, load) do without.

def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorated(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


_connection = _options(
    click.option("--port", required=True, metavar="PORT", help="Serial port, or a URL such as socket://localhost:4567."),
    click.option(
        "--baud", default=BAUD, show_default=True, type=click.IntRange(9600), help="Bits per second, as the device was built."
    ),
    click.option(
        "--timeout", default=5.0, show_default=True, type=Number(0, min_open=True), help="Seconds for an answer."
    ),
)
_network = _options(
    click.argument("net", required=False, type=FilePath()),
    click.option(
        "--plan",
        help="Plan on the device (name or .json), where its weights have to be loaded; the named one that it is by default.",
    ),
)
_data_dir = click.option("--data-dir", type=FolderPath(), help="First folder to look for the files of MNIST and CIFAR-10 in.")
_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")


def _dataset(default: str) -> Callable[[Any], Any]:
    return click.option("--dataset", metavar="DATA", help=f"mnist, digits5k, cifar10 or an .npz file; {default} by default.")


_DIGITS_OR_RANDOM = "MNIST where it is found, or the bundled digits, or random frames where the network takes no digits"


@group(
    help="Talk to a board. NET is the network (.npz) on the device; found among the bundled ones by default. Exit code 10 where "
    "a device that is built to check its weights has found others than the network's."
)
def main() -> None:
    """See the help text above."""


def _opened(port: str, baud: int, timeout: float) -> Device:
    """The device at a port."""
    from boards.device import Device

    return Device.open(port, baud=baud, timeout=timeout)


def _show(found: dict[str, Any], as_json: bool) -> None:
    """Print what was found: a line for each name, or JSON."""
    from boards.wire import printable

    if as_json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        print(f"{name}: {printable(str(value))}")


@main.command(help="Say what is on the device.")
@_connection
@_json
def identify(port: str, baud: int, timeout: float, as_json: bool) -> None:
    """See the help text above."""
    with _opened(port, baud, timeout) as device:
        _show(asdict(device.identity), as_json)


@main.command(
    help="Errors on the wire, saturations and cycles since reset; and what a device that checks its weights has found: exit code "
    "10 where they are not the network's."
)
@_connection
@_json
def status(port: str, baud: int, timeout: float, as_json: bool) -> None:
    """See the help text above."""
    with _opened(port, baud, timeout) as device:
        found = {**asdict(device.errors()), "saturations": list(device.saturations())}
        if not device.identity.weight_check:
            _show(found, as_json)
            return
        check = device.weight_check()
        _show({**found, "weight_passes": check.passes, "weights_differ": list(check.differing)}, as_json)
        device.require_weights(check)


@main.command(help="Set the device back to how it is after power-up.")
@_connection
@_json
def reset(port: str, baud: int, timeout: float, as_json: bool) -> None:
    """See the help text above."""
    with _opened(port, baud, timeout) as device:
        device.reset()
    if as_json:
        _show({"port": port, "network_hash": device.identity.network_hash}, as_json)


@main.command(help="Load the weights into a device that has no memory for them in its bitstream, and check them.")
@_connection
@_network
@_json
def load(port: str, baud: int, timeout: float, net: Path | None, plan: str | None, as_json: bool) -> None:
    """See the help text above."""
    from boards.bundled import network_on

    with _opened(port, baud, timeout) as device:
        network = network_on(device, net)
        _make_ready(device, network, plan, anew=True)
    words = device.identity.weight_words
    if as_json:
        _show({"port": port, "network": network.name, "words_loaded": words}, as_json)
    elif words:
        print(f"{port}: {words:,} words loaded, and read back as sent")
    else:
        print(f"{port}: all weights are in the bitstream")


def _make_ready(device: Device, network: Network, plan_name: str | None, *, anew: bool = False) -> None:
    """Load weights where that is needed, with a progress bar; whatever frame was begun is forgotten."""
    device.require(network)
    device.reset()
    if not device.identity.loads:
        return
    plan = device.identity.plan(network, plan_name)
    if not anew and device.loaded(network, plan):
        return
    console = make_console(stderr=True)
    with progress_bar(console) as bar:
        task = bar.add_task("weights", total=device.identity.weight_words)
        device.load(network, plan, done=lambda words: bar.update(task, completed=words))


@main.command(help="Test a device against the golden model; exit code 5 where they differ.")
@_connection
@_network
@_dataset(_DIGITS_OR_RANDOM)
@_data_dir
@click.option("--frames", default=10, show_default=True, type=click.IntRange(1), help="Frames to compare.")
@_json
def selftest(
    port: str,
    baud: int,
    timeout: float,
    net: Path | None,
    plan: str | None,
    dataset: str | None,
    data_dir: Path | None,
    frames: int,
    as_json: bool,
) -> None:
    """See the help text above."""
    from boards.bundled import network_on
    from boards.frames import frames_for

    with _opened(port, baud, timeout) as device:
        network = network_on(device, net)
        data = frames_for(network, dataset, data_dir, frames)
        _make_ready(device, network, plan)
        from boards.self_test import self_test

        checks = self_test(device, network, data.images)
        device.confirm_weights()
    passed = all(check.passed for check in checks)
    if as_json:
        found = {"network": network.name, "port": port, "dataset": data.name, "frames": frames, "passed": passed}
        print(json.dumps({**found, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        print(f"{network.name} at {port}: {data.name}")
        for check in checks:
            print(f"{'pass' if check.passed else 'FAIL'}  {check.name}: {check.seen}")
    if not passed:
        fail(Exit.MISMATCH, f"{port}: the device is not as the golden model")


@main.command(
    help="Membrane potentials and counts of a layer before a frame ends; exit code 5 where they differ from the golden model's."
)
@_connection
@_network
@_dataset(_DIGITS_OR_RANDOM)
@_data_dir
@click.option("--frame", default=0, show_default=True, type=click.IntRange(0), help="Which frame of the test set.")
@click.option("--layer", help="A layer of neurons; the last by default.")
@_json
def states(
    port: str,
    baud: int,
    timeout: float,
    net: Path | None,
    plan: str | None,
    dataset: str | None,
    data_dir: Path | None,
    frame: int,
    layer: str | None,
    as_json: bool,
) -> None:
    """See the help text above."""
    import numpy as np

    from boards.bundled import network_on
    from boards.frames import frames_for
    from model.encode import encode
    from model.support.dataset import DataError

    with _opened(port, baud, timeout) as device:
        network = network_on(device, net)
        name = layer or network.output.name
        data = frames_for(network, dataset, data_dir, None)
        if frame >= len(data.images):
            raise DataError(f"--frame must be within 0..{len(data.images) - 1} of {data.name}, not {frame}")
        _make_ready(device, network, plan)
        # Whatever is wrong with the request shows before a frame begins.
        device.state(network, name, 0, 0, 0)
        places = list(np.ndindex(*network.shape_of(name)))
        from boards.self_test import golden_states, layer_states

        events = encode(network, data.images[frame])
        console = make_console(stderr=True)
        with progress_bar(console) as bar:
            found, _ = layer_states(device, network, name, events, bar.track(places, description=name))
        device.confirm_weights()
    expected = golden_states(network, name, events)
    rows = [
        {"y": y, "x": x, "c": c, "potential": state.potential, "count": state.count}
        for (y, x, c), state in zip(places, found, strict=True)
    ]
    if as_json:
        head = {"network": network.name, "port": port, "dataset": data.name, "layer": name, "frame": frame}
        print(json.dumps({**head, "neurons": rows}, indent=2))
    else:
        shown = make_table("y", "x", "c", "potential", "count", title=f"{name}, frame {frame} of {data.name}")
        for row in rows:
            shown.add_row(*(str(value) for value in row.values()))
        make_console().print(shown)
    wrong = [n for n, (state, wanted) in enumerate(zip(found, expected, strict=True)) if state != wanted]
    if wrong:
        first = wrong[0]
        fail(
            Exit.MISMATCH,
            f"neuron {places[first]} of {name} must be {expected[first]}, not {found[first]}, and so on for {len(wrong)} neurons",
        )


@main.command(help="Evaluate a test set on a device, every answer beside the golden model's; resumes where it was cut off.")
@_connection
@_network
@_dataset("mnist")
@_data_dir
@click.option("--frames", type=click.IntRange(1), help="Only this many frames, the first ones.")
@click.option("--out", type=OutFolder(), help="Folder for results; build/NAME by default.")
@click.option("--restart", is_flag=True, help="Forget what an earlier run found.")
@_json
def evaluate(
    port: str,
    baud: int,
    timeout: float,
    net: Path | None,
    plan: str | None,
    dataset: str | None,
    data_dir: Path | None,
    frames: int | None,
    out: Path | None,
    restart: bool,
    as_json: bool,
) -> None:
    """See the help text above."""
    from boards.bundled import network_on
    from boards.frames import labelled_frames
    from model.support.dataset import DataError

    with _opened(port, baud, timeout) as device:
        network = network_on(device, net)
        data = labelled_frames(network, dataset, data_dir)
        total = frames or len(data.images)
        if total > len(data.images):
            raise DataError(f"--frames must be within 1..{len(data.images)} for {data.name}, not {total}")
        from boards.evaluation import Journal
        from boards.evaluation import evaluate as evaluated

        folder = out or Path("build") / network.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if restart:
                (folder / "device.jsonl").unlink(missing_ok=True)
            journal = Journal(folder / "device.jsonl", network, data)
        except OSError as error:
            raise BadInputError(f"{folder}: must be a folder that can be written to: {error.strerror}") from None
        _make_ready(device, network, plan)
        with _progress() as bar:
            task = bar.add_task(f"{network.name} at {port}", total=total)
            try:
                found = evaluated(device, network, data, journal, count=total, done=lambda n: bar.update(task, completed=n))
                device.confirm_weights()
            except WeightsDifferError:
                # Nobody knows since when: the next run must not take these answers for those of right weights.
                journal.forget()
                raise
    result = {
        "network": network.name,
        "network_hash": network.content_hash,
        "port": port,
        "dataset": data.name,
        "frames": total,
        "accuracy": found.accuracy,
        "mismatches": len(found.mismatches),
        "first_mismatch": found.mismatches[0].frame if found.mismatches else None,
        "latency_cycles_mean": found.latency_cycles_mean,
        "packets_sent_again": device.resent,
    }
    write_file(folder / "device.json", json.dumps(result, indent=2) + "\n")
    _show(result, as_json)
    if found.mismatches:
        first = found.mismatches[0]
        fail(
            Exit.MISMATCH,
            f"frame {first.frame} of {data.name}: {first}, and so on for {len(found.mismatches)} frames",
        )


def _progress() -> Progress:
    from rich.progress import MofNCompleteColumn, TimeRemainingColumn

    return progress_bar(make_console(stderr=True), MofNCompleteColumn(), TimeRemainingColumn())


if __name__ == "__main__":
    main()
