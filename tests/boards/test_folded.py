"""A folded machine with its two wires: weights go in, are checked, and without them there is no answer."""

import socket
from dataclasses import asdict, replace

import numpy as np
import pytest
from click.testing import CliRunner

from boards.definitions import board_named
from boards.device import Device, DeviceError, State
from boards.host import main
from boards.self_test import self_test
from boards.virtual import main as virtual
from boards.virtual_board import VirtualBoard
from hw.link.flash import flash_image
from hw.link.protocol import Command, Event, load_payloads, pack_event, packet
from model.encode import encode
from model.engine.engine import run_fast
from model.events import make_events
from model.golden import run
from model.machine.folded_layout import Folded
from model.machine.named_plans import named_plan
from model.machine.signature import signature
from model.network import INPUT, Neurons
from tests.hw.folded.test_machine import random_chain

NETWORK = random_chain(5)
CHOSEN = named_plan(NETWORK, "folded")
PLAN = replace(
    CHOSEN,
    cores=tuple(
        # Of one lane, and with states in the large memory.
        replace(core, channels=1, state_memory="single_port", weight_memory="block")
        if core.layer == "conv1"
        else replace(core, state_memory="block", weight_memory="single_port")
        for core in CHOSEN.cores
    ),
)
FOLDED = Folded.of(NETWORK, PLAN)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, *NETWORK.input_shape), dtype=np.uint8)


@pytest.fixture(scope="module")
def board():
    with VirtualBoard(NETWORK, PLAN) as found:
        yield found


@pytest.fixture
def device(board):
    """A device whose memory holds nothing of use."""
    with Device.open(board.url, clock=board.seconds) as found:
        found._exchange.ask(Command.LOAD, FOLDED.single_state_words.to_bytes(2, "little") + bytes(range(1, 9)))
        yield found


def expected(image):
    trace = run_fast(NETWORK, encode(NETWORK, image))
    return trace.answer, tuple(trace.counts.tolist())


def test_identity(device):
    identity = device.identity
    assert (identity.weight_first, identity.weight_words) == (FOLDED.single_state_words, FOLDED.single_weight_words)
    assert identity.weight_words > 20
    assert identity.loads and identity.states
    assert (identity.plan_name, PLAN.content_hash[:8]) == ("folded", identity.plan_hash)


def test_membrane_potentials(device):
    """Of every neuron in the middle of a frame; of some with nothing in, at its end, and after it."""
    device.load(NETWORK, PLAN)
    events = encode(NETWORK, IMAGES[0])
    neurons = [layer.name for layer in NETWORK.layers if isinstance(layer, Neurons)]
    assert [la.state_single for la in FOLDED.layers].count(True) == 1 and len({la.lanes for la in FOLDED.layers}) == 2

    def compare(sent, step=1):
        trace = run(NETWORK, sent)
        for layer in neurons:
            of = trace.layers[layer]
            for place in list(np.ndindex(of.potential.shape))[::step]:
                wanted = State(int(of.potential[place]), int(of.count[place]))
                assert device.state(NETWORK, layer, *place) == wanted, (layer, place)

    compare(events[:0], step=7)
    half = len(events) // 2
    device.begin_frame(NETWORK, events["address"][:half].tolist())
    compare(events[:half])
    device.begin_frame(NETWORK, events["address"][half:].tolist())
    compare(events, step=11)
    answer = device.end_frame(NETWORK)
    assert (answer.answer, answer.counts) == expected(IMAGES[0])
    compare(events[:0], step=7)
    with pytest.raises(DeviceError, match="there is no such neuron"):
        device._exchange.ask(Command.STATE, pack_event(NETWORK, Event()))


def test_events_have_one_way_in(device):
    device.load(NETWORK, PLAN)
    assert not device.identity.inject
    token = pack_event(NETWORK, Event(port=1))
    with pytest.raises(DeviceError, match="no way in at that port"):
        device._exchange.ask(Command.EVENTS, token, retries=0)
    assert device.classify(IMAGES[0]).counts == expected(IMAGES[0])[1]


def test_commands_of_a_device_that_was_built_without_watching_and_states(tmp_path):
    plan = replace(CHOSEN, watch=False, states=False)
    NETWORK.save(tmp_path / "net.npz")
    np.savez(tmp_path / "data.npz", images=IMAGES, labels=np.zeros(len(IMAGES), int))
    with VirtualBoard(NETWORK, plan) as board:
        common = ["--port", board.url, str(tmp_path / "net.npz")]
        loaded = CliRunner().invoke(main, ["load", *common])
        assert loaded.exit_code == 0, loaded.output
        found = CliRunner().invoke(main, ["states", *common, "--dataset", str(tmp_path / "data.npz")])
        assert found.exit_code == 8 and "plan must have 'states' for membrane potentials to be read" in found.stderr
        with Device.open(board.url, clock=board.seconds) as device:
            with pytest.raises(DeviceError, match="plan must have 'watch' for spikes to be watched: build it with --watch"):
                device.observe(IMAGES[0], NETWORK, [INPUT])
            assert device.errors().clean
            device.load(NETWORK, device.identity.plan(NETWORK))
            assert device.classify(IMAGES[0]).counts == expected(IMAGES[0])[1]


def test_no_answer_before_the_weights_are_there(device):
    message = rf"^{device._name}: weights must be loaded first: python -m boards.host load$"
    with pytest.raises(DeviceError, match=message):
        device.classify(IMAGES[0])
    with pytest.raises(DeviceError, match=message):
        device.classify_events(NETWORK, [0])
    assert not device.loaded(NETWORK, PLAN)
    device.load(NETWORK, PLAN)
    assert device.loaded(NETWORK, PLAN)
    for image in IMAGES:
        found = device.classify(image)
        assert (found.answer, found.counts) == expected(image)
    assert device.resent == 0


def test_any_wrong_bit_is_noticed(device, monkeypatch):
    words = FOLDED.single_weights()
    for at, bit in ((0, 0), (len(words) - 1, 63), (len(words) // 2, 17)):
        wrong = list(words)
        wrong[at] ^= 1 << bit
        with monkeypatch.context() as patch:
            patch.setattr(device, "_weights", lambda network, plan, wrong=wrong: wrong)
            with pytest.raises(DeviceError, match=r"the device expects other weights: plan .folded. is not what"):
                device.load(NETWORK, PLAN)
        assert device.check() == (signature(wrong), False)
        with pytest.raises(DeviceError, match="weights must be loaded first"):
            device.classify(IMAGES[0])


def test_a_bit_that_turns_on_the_way(device, monkeypatch):
    ask = device._exchange.ask

    def turned(command, payload=b"", **options):
        return ask(command, payload[:-1] + bytes([payload[-1] ^ 4]) if command is Command.LOAD else payload, **options)

    monkeypatch.setattr(device._exchange, "ask", turned)
    with pytest.raises(DeviceError, match=r"the weights that the device reads back are not those that it was sent$"):
        device.load(NETWORK, PLAN)


def test_one_word_written_later_takes_the_weights_back(device):
    device.load(NETWORK, PLAN)
    word = FOLDED.single_weights()[3].to_bytes(8, "little")
    device._exchange.ask(Command.LOAD, (FOLDED.single_state_words + 3).to_bytes(2, "little") + word)
    with pytest.raises(DeviceError, match="weights must be loaded first"):
        device.classify(IMAGES[0])
    # It was the right word.
    assert device.loaded(NETWORK, PLAN)
    found = device.classify(IMAGES[0])
    assert (found.answer, found.counts) == expected(IMAGES[0])


def test_a_reset_keeps_the_weights_and_asks_for_a_check(device):
    device.load(NETWORK, PLAN)
    device.reset()
    with pytest.raises(DeviceError, match="weights must be loaded first"):
        device.classify(IMAGES[1])
    assert device.check() == (signature(FOLDED.single_weights()), True)
    found = device.classify(IMAGES[1])
    assert (found.answer, found.counts) == expected(IMAGES[1])


def test_no_weights_in_the_middle_of_a_frame(device):
    device.load(NETWORK, PLAN)
    # An event without its end: a frame has begun.
    device._exchange.ask(Command.EVENTS, bytes(device.identity.event_bytes))
    frame = IMAGES[0].tobytes()
    for command, payload in ((Command.CHECK, b""), (Command.LOAD, bytes(10)), (Command.FRAME, frame)):
        with pytest.raises(DeviceError, match=f"^{device._name}: a list of events without its end has begun a frame"):
            device._exchange.ask(command, payload)
    device.reset()
    assert device.loaded(NETWORK, PLAN)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 9, 11, 17])
def test_load_of_another_length(device, length):
    before = device.errors().bad_length
    with pytest.raises(DeviceError, match="answers bad length to load"):
        device._exchange.ask(Command.LOAD, bytes(length), retries=0)
    assert device.errors().bad_length == before + 1


def test_load_beyond_the_memory(device):
    with pytest.raises(DeviceError, match="answers bad length to load"):
        device._exchange.ask(Command.LOAD, (1 << 14).to_bytes(2, "little") + bytes(8), retries=0)


def test_another_plan(device):
    message = rf"^{device._name}: plan must be 'folded' \(\w+\), which is on the device, not 'other'"
    with pytest.raises(DeviceError, match=message):
        device.load(NETWORK, replace(CHOSEN, name="other"))


def test_long_lists_of_events_and_what_passes(device):
    device.load(NETWORK, PLAN)
    rng = np.random.default_rng(1)
    addresses = rng.integers(0, NETWORK.input_shape.size, 150).tolist()
    signs = rng.choice((-1, 1), 150).tolist()
    trace = run_fast(NETWORK, make_events(addresses, signs))
    found = device.classify_events(NETWORK, addresses, signs)
    assert (found.answer, found.counts) == (trace.answer, tuple(trace.counts.tolist()))
    trace = run_fast(NETWORK, encode(NETWORK, IMAGES[0]))
    links = [INPUT, "pool1", "conv2", "fc1", "fc2"]
    answer, passed = device.observe(IMAGES[0], NETWORK, links)
    assert (answer.answer, answer.counts) == expected(IMAGES[0])
    for link in links:
        shape = NETWORK.shape_of(link)
        events = trace.events if link == INPUT else trace.layers[link].spikes
        got = [(shape.address(p.y, p.x, p.c), p.sign) for p in passed if p.link == link]
        assert got == list(zip(events["address"].tolist(), events["sign"].tolist(), strict=True))
    assert len(passed) > 50


def test_self_test_and_commands(device, tmp_path):
    device.load(NETWORK, PLAN)
    found = self_test(device, NETWORK, IMAGES[:3])
    assert all(check.passed for check in found), found
    NETWORK.save(tmp_path / "net.npz")
    PLAN.save(tmp_path / "plan.json")
    device._exchange.ask(Command.LOAD, FOLDED.single_state_words.to_bytes(2, "little") + bytes(8))
    options = ["--port", device._name, str(tmp_path / "net.npz"), "--plan", str(tmp_path / "plan.json")]
    device._wire.close()
    np.savez(tmp_path / "data.npz", images=IMAGES, labels=np.zeros(len(IMAGES), np.int64))
    # Weights are loaded where they are missing.
    done = CliRunner().invoke(main, ["evaluate", *options, "--dataset", str(tmp_path / "data.npz"), "--out", str(tmp_path)])
    assert (done.exit_code, "mismatches: 0" in done.stdout) == (0, True), done.output
    done = CliRunner().invoke(main, ["load", *options])
    assert done.stdout == f"{options[1]}: {FOLDED.single_weight_words:,} words loaded, and read back as sent\n"
    done = CliRunner().invoke(main, ["load", "--port", options[1]])
    assert done.exit_code == 2
    assert done.stderr == (
        f"error: NET must be given: {NETWORK.content_hash[:16]}, which is on the device, is no bundled network\n"
    )


ADDR = 0x20000
"""Of weights in the flash."""

IMAGE = flash_image(NETWORK, PLAN)
LOADS = load_payloads(NETWORK, FOLDED.single_weights(), first=FOLDED.single_state_words)


def test_weights_from_the_flash():
    """No host has loaded anything; a reset is as power-up."""
    with (
        VirtualBoard(NETWORK, PLAN, flash_addr=ADDR, flash=IMAGE) as board,
        Device.open(board.url, clock=board.seconds) as device,
    ):
        # Asked while the flash is read, which is nothing that went wrong.
        assert device.resent == 0
        for _ in range(2):
            assert [device.classify(image).counts for image in IMAGES] == [expected(image)[1] for image in IMAGES]
            assert device.errors().clean
            device.reset()
        assert all(check.passed for check in self_test(device, NETWORK, IMAGES))


def test_a_host_that_only_listens_hears_when_the_weights_are_there():
    wanted = packet(0, Command.LOAD) * len(LOADS)
    checked = packet(0, Command.CHECK, signature(FOLDED.single_weights()).to_bytes(8, "little") + b"\x01")
    with (
        VirtualBoard(NETWORK, PLAN, flash_addr=ADDR, flash=IMAGE) as board,
        socket.create_connection(("localhost", board.port), timeout=20) as wire,
    ):
        heard = b""
        while not heard.endswith(checked):
            more = wire.recv(4096)
            assert more, "the board is gone"
            heard += more
    # What was sent before it listened is lost.
    assert (wanted + checked).endswith(heard)


FIRST = packet(0, Command.LOAD, LOADS[0])


@pytest.mark.parametrize(
    ("held", "counted", "loaded"),
    [
        (b"", {}, False),
        (bytes(4096), {}, False),
        (b"\xa5" * 4096, {"bad_command": 1}, False),
        (IMAGE[:-6], {}, False),
        (IMAGE[:20], {"bad_crc": 1}, False),
        (FIRST[:-1] + bytes([FIRST[-1] ^ 1]) + IMAGE[len(FIRST) :], {"bad_crc": 1}, False),
        (IMAGE[:30] + bytes([IMAGE[30] ^ 0x10]) + IMAGE[31:], {"bad_crc": 1}, False),
        (FIRST + b"\xa4" + IMAGE[len(FIRST) + 1 :], {}, False),
        (packet(0, Command.RESET) * 2 + IMAGE, {"bad_command": 1}, False),
        (packet(0, Command.WATCH, b"\xff") + IMAGE, {"bad_command": 1}, False),
        (IMAGE + packet(0, Command.RESET), {}, True),
        (IMAGE + packet(0, Command.EVENTS, bytes(3)), {}, True),
        (packet(0, Command.CHECK) + IMAGE, {}, False),
    ],
    ids=[
        "erased",
        "zeros",
        "begins of packets",
        "no check",
        "cut off",
        "wrong checksum",
        "wrong bit",
        "wrong begin of a packet",
        "resets",
        "watch",
        "reset after the check",
        "begun frame after the check",
        "check before the weights",
    ],
)
def test_what_else_a_flash_may_hold(held, counted, loaded):
    """It ends, the host has its turn, and nothing wrong is taken for right."""
    with VirtualBoard(NETWORK, PLAN, flash_addr=ADDR, flash=held) as board, Device.open(board.url, clock=board.seconds) as device:
        assert {name: n for name, n in asdict(device.errors()).items() if n and name != "cycles"} == counted
        if not loaded:
            with pytest.raises(DeviceError, match="weights must be loaded first"):
                device.classify(IMAGES[0])
            device.load(NETWORK, PLAN)
        assert device.classify(IMAGES[0]).counts == expected(IMAGES[0])[1]


def test_a_board_reads_its_flash_only_for_weights():
    icebreaker, ulx3s = board_named("icebreaker"), board_named("ulx3s-85f")
    assert icebreaker.reads_flash(NETWORK, PLAN) and not ulx3s.reads_flash(NETWORK, PLAN)
    assert not icebreaker.reads_flash(NETWORK, named_plan(NETWORK, "minimal"))
    in_blocks = replace(PLAN, cores=tuple(replace(core, weight_memory="block") for core in PLAN.cores))
    assert not icebreaker.reads_flash(NETWORK, in_blocks)


def test_a_virtual_board_without_weights_in_a_flash():
    done = CliRunner().invoke(virtual, ["--board", "ulx3s-85f", "--flash"])
    assert done.exit_code == 2
    assert done.stderr == "error: --flash must not be given: no weights of plan mnist-fast-22 on ULX3S 85F are in a flash\n"
