"""A device that checks its weights while it runs: the host tells what it found, and no answer of wrong weights is silent."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from boards import host
from boards.device import Device, WeightCheck
from boards.identity import Identity
from boards.virtual_board import VirtualBoard
from hw.link.protocol import WEIGHTS, Command, packet
from hw.parts.background_check import BackgroundCheck
from model.machine.named_plans import named_plan
from model.studies.random_network import drawn
from model.support.errors import DeviceError, Exit, WeightsDifferError
from tests.boards.fake_device import FakeDevice, connected

NETWORK = drawn("6x6x1: 2C3 P2 4F")
PLAN = replace(named_plan(NETWORK, "minimal"), weight_check=True)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, *NETWORK.input_shape), dtype=np.uint8)

DIFFERS = (
    "fake: the device has found weights{} that are not its network's, and its answers may be wrong: load its bitstream again"
)
OF_LAYER_1 = " of layer 1 (neuron layers, from 0)"


@pytest.fixture
def fake(monkeypatch):
    found = FakeDevice(NETWORK, PLAN)
    connected(monkeypatch, found)
    return found


def invoke(tmp_path, command, port="fake"):
    net, data = tmp_path / "net.npz", tmp_path / "data.npz"
    NETWORK.save(net)
    np.savez(data, images=IMAGES, labels=np.zeros(len(IMAGES), np.int64))
    options = {
        "selftest": [net, "--dataset", data, "--frames", 3],
        "evaluate": [net, "--dataset", data, "--out", tmp_path, "--restart"],
    }.get(command, [])
    return CliRunner().invoke(host.main, [str(word) for word in (command, "--port", port, *options)])


def test_right_weights_are_confirmed(fake, tmp_path):
    with Device.open("fake") as device:
        assert device.identity.weight_check and device.identity.plan(NETWORK) == PLAN
        device.require(NETWORK, PLAN)
        assert device.weight_check() == WeightCheck(1, ())
        device.confirm_weights()
        assert fake.passes == 5
    for command in ("status", "selftest", "evaluate"):
        assert invoke(tmp_path, command).exit_code == Exit.OK
    said = json.loads(CliRunner().invoke(host.main, ["status", "--port", "fake", "--json"]).stdout)
    assert said["weight_passes"] > 0 and said["weights_differ"] == []


def test_an_answer_of_wrong_weights_is_an_error(fake):
    with Device.open("fake") as device:
        device.classify(IMAGES[0])
        fake.differing = 0b10
        with pytest.raises(WeightsDifferError) as error:
            device.classify(IMAGES[0])
        assert str(error.value) == DIFFERS.format("")
        assert device.weight_check().differing == (1,)
        # Until a reset, whatever the memory holds then.
        fake.differing = 0
        with pytest.raises(WeightsDifferError):
            device.classify(IMAGES[1])
        device.reset()
        device.classify(IMAGES[1])


def test_what_was_wrong_before_the_last_answer_is_seen_after_it(fake):
    """The device has not come to it when it answers."""
    with Device.open("fake") as device:
        device.classify(IMAGES[0])
        fake.differing = 0b10
        with pytest.raises(WeightsDifferError) as error:
            device.confirm_weights()
        assert str(error.value) == DIFFERS.format(OF_LAYER_1)


@pytest.mark.parametrize("command", ["status", "selftest", "evaluate"])
def test_commands_have_an_exit_code_of_their_own(fake, tmp_path, command):
    fake.differing = 0b10
    found = invoke(tmp_path, command)
    assert found.exit_code == Exit.WEIGHTS_DIFFER == 10
    assert found.stderr == f"error: {DIFFERS.format(OF_LAYER_1 if command == 'status' else '')}\n"
    if command == "status":
        assert "weights_differ: [1]\n" in found.stdout


def test_an_evaluation_forgets_what_wrong_weights_answered(fake, tmp_path):
    """The first answer leaves before the pass that finds them."""
    fake.lie = lambda number, command, payload: setattr(fake, "differing", 0b10) if fake.passes else None
    assert invoke(tmp_path, "evaluate").exit_code == Exit.WEIGHTS_DIFFER
    assert not (tmp_path / "device.jsonl").exists()


def test_a_device_that_reads_no_weights_is_refused(fake):
    fake.lie = lambda number, command, payload: (
        [packet(number, command, WEIGHTS.pack(7) + b"\0")] if command == Command.WEIGHTS else None
    )
    with Device.open("fake") as device, pytest.raises(DeviceError) as error:
        device.confirm_weights()
    assert str(error.value) == "fake: the device must read its weights 3 times within 60 s, not 0 times"


def test_passes_wrap_around(fake):
    counts = iter([0xFFFF_FFFF, 0, 1, 2])
    fake.lie = lambda number, command, payload: (
        [packet(number, command, WEIGHTS.pack(next(counts)) + b"\0")] if command == Command.WEIGHTS else None
    )
    with Device.open("fake") as device:
        device.confirm_weights()
    assert list(counts) == []


def test_an_answer_that_is_too_short_is_refused(fake):
    fake.lie = lambda number, command, payload: [packet(number, command, b"1234")] if command == Command.WEIGHTS else None
    with Device.open("fake") as device, pytest.raises(DeviceError) as error:
        device.weight_check()
    assert str(error.value) == "fake: the answer to weights must have more than 4 bytes, not 4"


def test_a_device_without_the_check(monkeypatch):
    device = FakeDevice(NETWORK, named_plan(NETWORK, "minimal"))
    connected(monkeypatch, device)
    assert not Identity.parse(device.identity()).weight_check
    with Device.open("fake") as found:
        found.confirm_weights()
        with pytest.raises(DeviceError) as error:
            found.weight_check()
    assert str(error.value) == "fake: plan must have 'weight_check' for weights to be checked: build it with --weight-check"


def test_a_virtual_board(tmp_path):
    with VirtualBoard(NETWORK, PLAN) as board:
        for command in ("status", "selftest", "evaluate"):
            found = invoke(tmp_path, command, board.url)
            assert found.exit_code == Exit.OK, found.output


def test_a_virtual_board_of_wrong_weights(tmp_path, monkeypatch):
    """It expects others of the linear layer, which is the same as that it holds others."""
    right = BackgroundCheck.expected.fget
    monkeypatch.setattr(BackgroundCheck, "expected", property(lambda check: right(check) ^ (check.depth == 32)))
    with VirtualBoard(NETWORK, replace(PLAN, name="wrong")) as board:
        found = invoke(tmp_path, "status", board.url)
        assert (found.exit_code, found.stderr) == (10, f"error: {DIFFERS.format(OF_LAYER_1).replace('fake', board.url)}\n")
        assert invoke(tmp_path, "selftest", board.url).exit_code == 10
