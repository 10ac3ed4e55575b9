"""The host's library and commands against a virtual board, which is the hardware's own RTL, and against worse."""

import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from boards.device import Device, DeviceError, State
from boards.host import main
from boards.self_test import self_test
from boards.virtual_board import DIVISOR, VirtualBoard
from boards.wire import BAUD
from hw.link.protocol import HEADER_BYTES, RESULT, Command, Event, pack_event
from model.encode import encode
from model.events import make_events
from model.golden import run
from model.machine.named_plans import named_plan
from model.machine.stages import ports
from model.network import INPUT, Neurons
from tests.hardware import random_network

NETWORK = random_network(2)
PLAN = named_plan(NETWORK, "minimal")
IMAGES = np.random.default_rng(0).integers(0, 256, (6, *NETWORK.input_shape), dtype=np.uint8)


@pytest.fixture(scope="module")
def board():
    with VirtualBoard(NETWORK, PLAN) as found:
        yield found


@pytest.fixture
def device(board):
    with Device.open(board.url, clock=board.seconds) as found:
        yield found


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
        wire.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"socket://localhost:{door.getsockname()[1]}"
    thread.join(5)
    door.close()


def expected(image):
    trace = run(NETWORK, encode(NETWORK, image))
    return trace.answer, tuple(trace.counts.tolist())


def test_frames_have_the_golden_models_answers(device):
    for image in IMAGES:
        found = device.classify(image)
        assert (found.answer, found.counts) == expected(image)
        assert found.cycles > 0
    assert device.resent == 0


def test_signed_events(device):
    rng = np.random.default_rng(1)
    addresses = rng.integers(0, NETWORK.input_shape.size, 20).tolist()
    signs = rng.choice((-1, 1), 20).tolist()
    trace = run(NETWORK, make_events(addresses, signs))
    found = device.classify_events(NETWORK, addresses, signs)
    assert (found.answer, found.counts) == (trace.answer, tuple(trace.counts.tolist()))
    with pytest.raises(ValueError, match=rf"^address must be within 0..{NETWORK.input_shape.size - 1}, not -1$"):
        device.classify_events(NETWORK, [-1])


def test_what_passes_on_a_link(device):
    trace = run(NETWORK, encode(NETWORK, IMAGES[0]))
    output = NETWORK.output.name
    answer, passed = device.observe(IMAGES[0], NETWORK, [INPUT, output])
    assert (answer.answer, answer.counts) == expected(IMAGES[0])
    for link, events, shape in (
        (INPUT, encode(NETWORK, IMAGES[0]), NETWORK.input_shape),
        (output, trace.layers[output].spikes, NETWORK.shape_of(output)),
    ):
        found = [(shape.address(p.y, p.x, p.c), p.sign) for p in passed if p.link == link]
        assert found == list(zip(events["address"].tolist(), events["sign"].tolist(), strict=True))
    assert len(passed) > 20


def test_self_test(device):
    found = self_test(device, NETWORK, IMAGES[:3])
    assert all(check.passed for check in found), found
    assert [check.name for check in found] == ["frames", "cycles", "saturations", "potentials", "wire"]


def test_self_test_finds_what_differs(device, monkeypatch):
    """A golden model of other weights stands for a device that computes wrongly."""
    other = random_network(2)
    wrong = replace(other, layers=tuple(
        replace(la, bias=la.bias + la.theta) if la is other.output else la for la in other.layers
    ))
    monkeypatch.setattr(device, "require", lambda network: None)
    found = {check.name: check.passed for check in self_test(device, wrong, IMAGES[:3])}
    assert found["frames"] is False and found["potentials"] is False
    assert found["cycles"] is True


def test_identity(device):
    identity = device.identity
    assert NETWORK.content_hash.startswith(identity.network_hash) and len(identity.network_hash) == 16
    assert PLAN.content_hash.startswith(identity.plan_hash) and len(identity.plan_hash) == 8
    assert (identity.plan_name, identity.clock_hz) == ("minimal", DIVISOR * BAUD)
    assert (identity.watch, identity.states, identity.inject) == (True, True, True)
    assert (identity.loads, identity.weight_words) == (False, 0)
    device.require(NETWORK, PLAN)
    other = replace(PLAN, name="other", watch=False)
    with pytest.raises(
        DeviceError,
        match=rf"^{device._name}: plan must be 'minimal' \({identity.plan_hash}\), which is on the device, "
        rf"not 'other' \({other.content_hash[:8]}\)$",
    ):
        device.require(NETWORK, other)


def same_states(device, layer, events):
    """Whether the states of all neurons are those of the golden model after these events."""
    trace = run(NETWORK, events).layers[layer]
    for place in np.ndindex(trace.potential.shape):
        expected = State(int(trace.potential[place]), int(trace.count[place]))
        assert device.state(NETWORK, layer, *place) == expected, (layer, place)
    return trace


NEURON_LAYERS = [layer.name for layer in NETWORK.layers if isinstance(layer, Neurons)]


def test_membrane_potentials_in_the_middle_of_a_frame(device):
    device.reset()
    events = encode(NETWORK, IMAGES[1])
    half = len(events) // 2
    none = make_events([], [])
    seen = dict.fromkeys(("negative", "fired", "untouched"), False)
    for layer in NEURON_LAYERS:
        same_states(device, layer, none)
    device.begin_frame(NETWORK, events["address"][:half].tolist())
    for layer in NEURON_LAYERS:
        trace = same_states(device, layer, events[:half])
        seen["negative"] |= bool((trace.potential < 0).any())
        seen["fired"] |= bool(trace.count.any())
    device.begin_frame(NETWORK, events["address"][half:].tolist())
    for layer in NEURON_LAYERS[-2:]:
        same_states(device, layer, events)
    answer = device.end_frame(NETWORK)
    assert (answer.answer, answer.counts) == expected(IMAGES[1])
    for layer in NEURON_LAYERS:
        trace = same_states(device, layer, none)
        seen["untouched"] |= bool(trace.potential.any())
    assert all(seen.values()), seen
    assert device.classify(IMAGES[2]).counts == expected(IMAGES[2])[1]


def test_states_of_a_machine_with_many_lanes():
    plan = replace(named_plan(NETWORK, "fast"), states=True)
    assert any(core.rows > 1 for core in plan.cores) and any(core.channels > 1 for core in plan.cores)
    events = encode(NETWORK, IMAGES[0])
    with VirtualBoard(NETWORK, plan) as board, Device.open(board.url, clock=board.seconds) as device:
        device.begin_frame(NETWORK, events["address"].tolist())
        for layer in NEURON_LAYERS:
            same_states(device, layer, events)
        answer = device.end_frame(NETWORK)
        assert (answer.answer, answer.counts) == expected(IMAGES[0])


def test_no_such_neuron(device):
    output = NETWORK.output.name
    classes = NETWORK.classes
    with pytest.raises(ValueError, match=rf"^c must be within 0..{classes - 1} in {output}, not {classes}$"):
        device.state(NETWORK, output, 0, 0, classes)
    pools = [layer.name for layer in NETWORK.layers if layer.name not in NEURON_LAYERS]
    with pytest.raises(ValueError, match=rf"^layer must be one of {', '.join(NEURON_LAYERS)}, not '{pools[0]}'$"):
        device.state(NETWORK, pools[0], 0, 0, 0)
    # The device knows as well.
    numbers = {layer.name: number for number, layer in enumerate(NETWORK.layers, start=1)}
    bad = [Event(port=numbers[output], c=classes), Event(), Event(port=numbers[pools[0]])]
    bad.append(Event(port=numbers[NEURON_LAYERS[0]], y=NETWORK.shape_of(NEURON_LAYERS[0]).height))
    for place in bad:
        with pytest.raises(DeviceError, match=rf"^{device._name}: there is no such neuron, or no way in at that port$"):
            device._ask(Command.STATE, pack_event(NETWORK, place))
    assert device.classify(IMAGES[0]).counts == expected(IMAGES[0])[1]


def test_no_way_in_at_a_port_and_none_out_of_it(device):
    """A layer that a max-pool is fused to has no link of its own; events there are refused, and answers go on."""
    known = ports(NETWORK).values()
    fused = next(port for port in range(len(NETWORK.layers) + 1) if port not in known)
    with pytest.raises(DeviceError, match="no way in at that port"):
        device._ask(Command.EVENTS, pack_event(NETWORK, Event(port=fused, end=True)), retries=0)
    assert device.classify(IMAGES[0]).counts == expected(IMAGES[0])[1]


def test_frames_at_an_inner_port_have_their_own_numbers(device):
    """Three frames of the output's own spikes, and then pixels."""
    port = ports(NETWORK)[NETWORK.output.name]
    tokens = [Event(port=port, c=1), Event(port=port, end=True)]
    payload = b"".join(pack_event(NETWORK, token) for token in tokens)
    for _ in range(3):
        answer = device._answer(device._ask(Command.EVENTS, payload, answered_by=Command.FRAME, retries=0))
        assert (answer.answer, answer.counts[1], sum(answer.counts)) == (1, 1, 1)
    assert device.classify(IMAGES[0]).counts == expected(IMAGES[0])[1]


def test_pixels_do_not_go_on_with_a_list(device):
    device.begin_frame(NETWORK, [0, 1, 2])
    with pytest.raises(DeviceError, match="a list of events without its end has begun a frame; forget it with"):
        device.classify(IMAGES[0])
    answer = device.end_frame(NETWORK)
    assert answer.counts == tuple(run(NETWORK, make_events([0, 1, 2], [1, 1, 1])).counts.tolist())
    assert device.classify(IMAGES[0]).counts == expected(IMAGES[0])[1]


def test_states_command(board, tmp_path):
    net = tmp_path / "net.npz"
    NETWORK.save(net)
    data = tmp_path / "data.npz"
    np.savez(data, images=IMAGES, labels=np.zeros(len(IMAGES), int))
    common = ["states", "--port", board.url, str(net), "--dataset", str(data), "--frame", "2"]
    found = CliRunner().invoke(main, [*common, "--json"])
    assert found.exit_code == 0, found.output
    neurons = json.loads(found.stdout)["neurons"]
    assert [neuron["count"] for neuron in neurons] == list(expected(IMAGES[2])[1])
    assert "potential" in CliRunner().invoke(main, [*common, "--layer", NEURON_LAYERS[1]]).stdout
    found = CliRunner().invoke(main, [*common[:-1], "6"])
    assert (found.exit_code, found.stderr) == (2, f"error: --frame must be within 0..5 of {data}, not 6\n")
    found = CliRunner().invoke(main, [*common, "--layer", "conv9"])
    assert (found.exit_code, found.stderr) == (2, f"error: layer must be one of {', '.join(NEURON_LAYERS)}, not 'conv9'\n")


def test_an_evaluation_of_other_frames_begins_anew(tmp_path, board):
    """The data set's file has the same name, and other frames."""
    options = files(tmp_path)
    assert command("evaluate", "--port", board.url, *options).exit_code == 0
    np.savez(tmp_path / "data.npz", images=IMAGES[::-1], labels=np.zeros(len(IMAGES), np.int64))
    found = command("evaluate", "--port", board.url, *options)
    assert found.exit_code == 0, found.output


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
        wire.sendall(bytes(np.random.default_rng(3).integers(0, 256, 3000, dtype=np.uint8)))
    with Device.open(board.url, clock=board.seconds) as device:
        found = device.classify(IMAGES[4])
        assert (found.answer, found.counts) == expected(IMAGES[4])


def test_another_network_is_on_the_device(device):
    with pytest.raises(DeviceError, match=r"network must be random1 \(\w{16}\), not \w{16}, which is on the device$"):
        device.require(random_network(1))


def test_a_frame_of_another_shape(device):
    with pytest.raises(ValueError, match=r"^frame must be uint8 of shape \(.*\), not uint8 of \(3, 3, 1\)$"):
        device.classify(np.zeros((3, 3, 1), np.uint8))


def test_nothing_is_there():
    with pytest.raises(DeviceError, match=r"^/dev/nothing-here: cannot be opened: "):
        Device.open("/dev/nothing-here")


def test_something_else_is_there():
    """A port that takes everything and says nothing."""
    with socket.create_server(("localhost", 0)) as door:
        url = f"socket://localhost:{door.getsockname()[1]}"
        with pytest.raises(DeviceError, match=r"no answer to identify within 0.2 s, tried 3 times: is the board programmed"):
            Device.open(url, timeout=0.2)


def files(tmp_path):
    NETWORK.save(tmp_path / "net.npz")
    np.savez(tmp_path / "data.npz", images=IMAGES, labels=np.zeros(len(IMAGES), np.int64))
    return [tmp_path / "net.npz", "--dataset", tmp_path / "data.npz", "--out", tmp_path]


def command(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_an_evaluation_goes_on_where_the_plug_was_pulled(tmp_path):
    options = files(tmp_path)
    with VirtualBoard(NETWORK, PLAN) as board:
        assert command("evaluate", "--port", board.url, *options, "--frames", 3, "--json").exit_code == 0
    gone = command("evaluate", "--port", board.url, *options)
    assert gone.exit_code == 8
    assert gone.stderr.startswith(f"error: {board.url}: cannot be opened: ")
    # The last line of the journal is cut off, as where the program was killed while it wrote.
    journal = tmp_path / "device.jsonl"
    journal.write_text(journal.read_text()[:-9])
    with VirtualBoard(NETWORK, PLAN) as board:
        found = command("evaluate", "--port", board.url, *options, "--json")
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert (result["frames"], result["mismatches"]) == (len(IMAGES), 0)
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line["frame"] for line in lines[1:]] == list(range(len(IMAGES)))
    answers = [expected(image)[0] for image in IMAGES]
    assert result["accuracy"] == pytest.approx(np.mean(np.array(answers) == 0))


def test_a_device_that_differs_is_named(tmp_path, board):
    options = files(tmp_path)
    assert command("evaluate", "--port", board.url, *options).exit_code == 0
    journal = tmp_path / "device.jsonl"
    lines = journal.read_text().splitlines()
    wrong = json.loads(lines[2])
    wrong["counts"][0] += 1
    journal.write_text("\n".join([*lines[:2], json.dumps(wrong), *lines[3:]]) + "\n")
    found = command("evaluate", "--port", board.url, *options)
    assert found.exit_code == 5
    assert found.stderr.startswith("error: frame 1 of ")


def test_commands(board):
    assert json.loads(command("identify", "--port", board.url, "--json").stdout)["network_hash"] == NETWORK.content_hash[:16]
    command("reset", "--port", board.url)
    assert json.loads(command("status", "--port", board.url, "--json").stdout)["bad_crc"] == 0


def test_a_virtual_board_does_not_outlive_its_program():
    text = (
        "from boards.virtual_board import VirtualBoard; from tests.boards.test_host import NETWORK, PLAN; import os\n"
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
