"""The host against a device that frames its answers rightly and lies in them: one line, an exit code, an end to every wait."""

import itertools
import json
import random
import re
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from boards import demo, host
from boards.device import Device, DeviceError
from boards.identity import Identity
from hw.link.protocol import COUNTED, IDENTITY, PROTOCOL_VERSION, REFUSED, SYNC, Command, Event, Status, pack_event, packet
from model.machine.named_plans import named_plan
from model.machine.stages import ports
from model.network import INPUT
from model.support.errors import BadInputError, Exit
from sim.generators.networks import random_network
from tests.boards.fake_device import FakeDevice, connected, served
from tests.hw.folded.test_machine import random_chain

PIPELINE = random_network(2)
FOLDED = random_chain(5)
MACHINES = {
    "pipeline": (PIPELINE, named_plan(PIPELINE, "minimal")),
    "checked": (PIPELINE, replace(named_plan(PIPELINE, "minimal"), weight_check=True)),
    "folded": (FOLDED, named_plan(FOLDED, "folded")),
}
COMMANDS = ("identify", "status", "reset", "load", "selftest", "states", "evaluate", "demo")
PLAUSIBLE = ("another length", "a bit", "twice", "escapes")
"""Lies of which an identity may come that there could be."""

ESCAPES = b"\x1b]0;own\x07\x1b[2J\r\x00\xff"


def pieces(endless):
    return itertools.repeat(endless)


def lies(chance):
    """Ways to answer wrongly: functions of sequence number, command and honest payload."""

    def random_bytes(most):
        return chance.randbytes(chance.randrange(most))

    def flipped(payload):
        at = chance.randrange(len(payload)) if payload else 0
        return payload[:at] + bytes([payload[at] ^ 1 << chance.randrange(8)]) + payload[at + 1 :] if payload else b"\x01"

    return {
        "another length": lambda n, c, p: [packet(n, c, chance.choice([p[:-1], p + b"\0", p + p, b"", random_bytes(400)]))],
        "random": lambda n, c, p: [packet(n, c, chance.randbytes(len(p)))],
        "zeros": lambda n, c, p: [packet(n, c, bytes(len(p)))],
        "ones": lambda n, c, p: [packet(n, c, b"\xff" * len(p))],
        "a bit": lambda n, c, p: [packet(n, c, flipped(p))],
        "escapes": lambda n, c, p: [packet(n, c, (p[:-4] if len(p) > 40 else b"") + ESCAPES)],
        "another sequence number": lambda n, c, p: [packet((n + chance.randrange(1, 256)) & 0xFF, c, p)],
        "another command": lambda n, c, p: [packet(n, chance.randrange(256), p)],
        "an error": lambda n, c, p: [packet(n, chance.choice([*COUNTED, *REFUSED]), random_bytes(4))],
        "a longer one than there can be": lambda n, c, p: [bytes([SYNC, n, c, 0xFF, 0xFF]), random_bytes(200)],
        "twice": lambda n, c, p: [packet(n, c, p)] * 2,
        "silence": lambda n, c, p: [],
        "endless text": lambda n, c, p: pieces(b"no Tally device \x1b[31m here\r\n"),
        "endless begins of packets": lambda n, c, p: pieces(bytes([SYNC]) * 64),
        "endless answers to others": lambda n, c, p: pieces(packet(n + 1 & 0xFF, c, p)),
        "endless watched events": lambda n, c, p: pieces(packet(n, Status.WATCHED, bytes(3))),
    }


@pytest.fixture(autouse=True)
def _plans_once(monkeypatch):
    """The search for the best folded plan takes longer than all else here, and gives the same each time."""
    known = {}

    def once(network, name):
        key = (network.content_hash, name)
        return known[key] if key in known else known.setdefault(key, named_plan(network, name))

    monkeypatch.setattr("boards.identity.named_plan", once)


def port_of(monkeypatch, network, plan, lie):
    return connected(monkeypatch, FakeDevice(network, plan, lie))


def invoke(tmp_path, command, network, *more):
    data, net = tmp_path / "data.npz", tmp_path / "net.npz"
    if not net.exists():
        network.save(net)
        images = np.random.default_rng(0).integers(0, 256, (3, *network.input_shape), dtype=np.uint8)
        np.savez(data, images=images, labels=np.zeros(len(images), np.int64))
    options = {
        "selftest": [net, "--frames", 2],
        "states": [net, "--frame", 1],
        "load": [net],
        "evaluate": [net, "--dataset", data, "--out", tmp_path, "--restart"],
        "demo": [net, "--terminal"],
    }.get(command, [])
    if command == "demo":
        return CliRunner().invoke(demo.main, [str(a) for a in ("--port", "fake", *options, *more)], input="\nq\n")
    return CliRunner().invoke(host.main, [str(a) for a in (command, "--port", "fake", "--timeout", 0.6, *options, *more)])


def is_clear(found):
    """One line at the most says what is wrong, nothing commands the terminal, and the exit code is one of Tally's."""
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exc_info
    assert found.exit_code in (Exit.OK, Exit.BAD_INPUT, Exit.MISMATCH, Exit.NO_DEVICE, Exit.WEIGHTS_DIFFER), found.output
    if found.exit_code:
        assert re.fullmatch(r"error: [^\n]+\n", found.stderr), found.stderr
    assert all(char.isprintable() or char == "\n" for char in found.output), found.output
    return found.exit_code


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("command", COMMANDS)
def test_honest_answers_are_right(tmp_path, monkeypatch, command, machine):
    network, plan = MACHINES[machine]
    port = port_of(monkeypatch, network, plan, lambda *answer: None)
    found = invoke(tmp_path, command, network)
    assert is_clear(found) == Exit.OK, found.output
    assert (found.stdout and not port.is_open) or command == "reset"
    if command == "selftest":
        assert found.stdout.startswith(f"{network.name} at fake: random frames, seed 0\npass  frames: 2 frames, 0 differ")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_against_every_lie(tmp_path, monkeypatch, command, machine):
    """From the first answer on, from a later one on, or in one answer only; virtual time, so that every wait is seen to end."""
    network, plan = MACHINES[machine]
    codes = set()
    for number, name in enumerate(lies(random.Random())):
        for since, until in ((0, 99_999), (1, 2), (3, 4), (random.Random(number).randrange(2, 30), 99_999)):
            chance = random.Random(f"{command} {machine} {name} {since}")
            answer, seen = lies(chance)[name], itertools.count()

            def lie(sequence, kind, payload, answer=answer, seen=seen, since=since, until=until):
                return answer(sequence, kind, payload) if since <= next(seen) < until else None

            port_of(monkeypatch, network, plan, lie)
            found = invoke(tmp_path, command, network)
            try:
                codes.add(is_clear(found))
            except AssertionError as error:
                raise AssertionError(f"{command}, {name}, answers {since} to {until}: {error}") from found.exception
            if since == 0 and name not in PLAUSIBLE:
                assert found.exit_code == Exit.NO_DEVICE, (name, found.output)
    assert Exit.NO_DEVICE in codes


IDENTITIES = {
    "version": dict(
        at=0,
        value=PROTOCOL_VERSION + 1,
        message=f"protocol version must be {PROTOCOL_VERSION}, not {PROTOCOL_VERSION + 1}: build",
    ),
    "event bytes": dict(at=1, value=0, message=r"bytes of an event must be within 1\.\.255, not 0"),
    "height": dict(at=4, value=0, message=r"pixels of a frame must be within 1\.\.65535, not 0"),
    "width": dict(at=5, value=0xFFFF, message=r"pixels of a frame must be within 1\.\.65535, not \d+"),
    "classes": dict(at=7, value=0, message=r"classes must be within 1\.\.\d+, not 0"),
    "many classes": dict(at=7, value=0xFFFF, message=r"classes must be within 1\.\.\d+, not 65535"),
    "weights": dict(at=9, value=1, message=r"words of weights must be within 0\.\.0, not 1"),
    "clock": dict(at=10, value=0, message=r"clock in Hz must be within 1\.\.\d+, not 0"),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_an_identity_that_cannot_be(monkeypatch, name):
    honest = FakeDevice(*MACHINES["pipeline"]).identity()
    values = list(IDENTITY.unpack_from(honest))
    values[IDENTITIES[name]["at"]] = IDENTITIES[name]["value"]
    with pytest.raises(ValueError, match=IDENTITIES[name]["message"]):
        Identity.parse(IDENTITY.pack(*values) + honest[IDENTITY.size :])
    assert Identity.parse(honest).plan_name == "minimal"


def test_a_device_names_no_file(tmp_path, monkeypatch):
    """A plan's name is not opened as a file, and is not printed as it comes."""
    network, plan = MACHINES["folded"]
    honest = FakeDevice(network, plan).identity()
    for name in (b"/etc/passwd.json", ESCAPES):
        port_of(monkeypatch, network, plan, lambda n, c, p, name=name: (
            [packet(n, c, honest[: IDENTITY.size] + name)] if c == Command.IDENTIFY else None
        ))
        found = invoke(tmp_path, "load", network)
        assert is_clear(found) == Exit.BAD_INPUT
        assert found.stderr.startswith("error: --plan must be given, as of the plan on the device it is not known: plan must be ")
        shown = invoke(tmp_path, "identify", network)
        assert is_clear(shown) == Exit.OK
        assert is_clear(invoke(tmp_path, "identify", network, "--json")) == Exit.OK


def watched(network, *events):
    """A device whose frames have these watched events."""
    def lie(sequence, command, payload):
        if command != Status.WATCHED:
            return None
        return [packet(sequence, command, pack_event(network, event)) for event in events]

    return lie


def test_watched_events_that_cannot_be(monkeypatch):
    network, plan = MACHINES["pipeline"]
    output, port = network.output.name, ports(network)[network.output.name]
    frame = np.full(tuple(network.input_shape), 255, np.uint8)
    shape = network.shape_of(output)
    for events, message in (
        ([Event(0, c=0)], rf"what is watched must be of ports \[{port}\], up to the end of the frame, not of port 0$"),
        ([Event(port, end=True)] * 2, rf"up to the end of the frame, not of port {port}$"),
        ([Event(port, y=1)], rf"a spike of {output} must be within \({shape.height}, .*\), not at \(1, 0, 0\)$"),
        (itertools.repeat(Event(port)), r"what is watched in a frame must end within 7\.2 s$"),
    ):
        port_of(monkeypatch, network, plan, watched(network, *itertools.islice(events, 3000)))
        with Device.open("fake", timeout=0.6) as device, pytest.raises(DeviceError, match=message):
            device.observe(frame, network, [output])
    port_of(monkeypatch, network, plan, lambda *answer: None)
    with Device.open("fake") as device:
        answer, passed = device.observe(frame, network, [INPUT, output])
        assert answer == device.classify(frame)
        assert sum(spike.link == INPUT for spike in passed) == network.input_shape.size
        with pytest.raises(BadInputError, match=r"^link must be one of "):
            device.observe(frame, network, ["conv9"])


@pytest.mark.parametrize("name", ["endless text", "endless answers to others", "endless begins of packets"])
def test_endless_answers_over_a_real_socket(name):
    network, plan = MACHINES["pipeline"]
    with (
        served(FakeDevice(network, plan, lies(random.Random(0))[name])) as url,
        pytest.raises(DeviceError, match=rf"^{url}: (bytes come without end|no answer to identify)"),
    ):
        Device.open(url, timeout=0.2)


def test_a_real_socket_and_an_honest_device():
    network, plan = MACHINES["pipeline"]
    with served(FakeDevice(network, plan)) as url:
        found = CliRunner().invoke(host.main, ["identify", "--port", url, "--json"])
    assert json.loads(found.stdout)["network_hash"] == network.content_hash[:16]
