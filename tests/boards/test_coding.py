"""Boards whose input has several levels, and colour: both machines, whose encoders are not the same."""

import json
import threading
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from boards.demo_server import Demo, serve
from boards.device import Device
from boards.frames import Frames
from boards.host import main
from boards.self_test import self_test
from boards.virtual_board import VirtualBoard
from model.encode import encode
from model.golden import run
from model.machine.named_plans import FOLDED, named_plan
from model.network import INPUT, Network, Padding, Shape
from sim.generators.networks import random_convolution, random_linear

SHAPE = Shape(4, 3, 3)


def colour_network(**coding):
    """Two layers behind frames of three channels."""
    layers = (
        random_convolution(1, inputs=3, channels=4, kernel=(3, 3), stride=(1, 1), padding=Padding(1, 1, 1, 1), name="conv"),
        random_linear(2, inputs=4 * SHAPE.height * SHAPE.width, outputs=4, name="fc", source="conv", activation="identity"),
    )
    return Network(name="colour", input_shape=SHAPE, layers=layers, **coding)


# Levels that end before a pixel is dark: how often one has fired is kept beside it.
NETWORK = colour_network(input_threshold=40, input_step=37, input_levels=4)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, *SHAPE), dtype=np.uint8)
IMAGES[1] = 40 + 37 * np.random.default_rng(1).integers(0, 6, SHAPE) + 1
IMAGES[2], IMAGES[3] = 0, 255


@pytest.fixture(scope="module", params=["minimal", FOLDED])
def plan(request):
    return replace(named_plan(NETWORK, request.param), watch=True, states=True)


@pytest.fixture(scope="module")
def device(plan):
    with VirtualBoard(NETWORK, plan) as board, Device.open(board.url, timeout=600, clock=board.seconds) as found:
        if found.identity.loads:
            found.load(NETWORK, plan)
        yield found


def test_every_spike_of_a_frame(device):
    for image in IMAGES:
        events, trace = encode(NETWORK, image), run(NETWORK, encode(NETWORK, image))
        answer, passed = device.observe(image, NETWORK, [INPUT, "fc"])
        for link, wanted in ((INPUT, events), ("fc", trace.layers["fc"].spikes)):
            found = [NETWORK.shape_of(link).address(spike.y, spike.x, spike.c) for spike in passed if spike.link == link]
            assert found == wanted["address"].tolist()
        assert answer.counts == tuple(trace.counts.tolist())
        # A list of the same events has the same answer.
        assert device.classify_events(NETWORK, events["address"].tolist()).counts == answer.counts
    assert len(events) == 4 * SHAPE.size


def test_self_test(device):
    checks = self_test(device, NETWORK, IMAGES)
    assert all(check.passed for check in checks), checks
    assert [check.name for check in checks] == ["frames", "cycles", "saturations", "potentials", "wire"]


def test_demo(device, plan):
    frames = Frames(IMAGES, np.array([0, 1, 2, 3]), "frames")
    demo = Demo(NETWORK, plan, device, 60e6, "virtual board", frames)
    with serve(demo, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            body = json.dumps({"pixels": IMAGES[0].reshape(-1).tolist(), "watch": True}).encode()
            with urllib.request.urlopen(f"http://localhost:{server.server_address[1]}/classify", body, timeout=600) as reply:
                found = json.loads(reply.read())
        finally:
            server.shutdown()
            thread.join()
    trace = run(NETWORK, encode(NETWORK, IMAGES[0]))
    assert found["equal"] and found["input"]["address"] == trace.events["address"].tolist()
    assert len(found["counts_over_time"]) == len(trace.events) + 1 > SHAPE.size
    assert found["counts_over_time"][-1] == found["counts"] == trace.counts.tolist()
    assert found["potentials_over_time"][-1] == (trace.potentials * 100 // NETWORK.output.theta).tolist()


@pytest.mark.parametrize("name", ["minimal", FOLDED])
def test_commands(name, tmp_path):
    NETWORK.save(tmp_path / "net.npz")
    np.savez(tmp_path / "data.npz", images=IMAGES, labels=np.array([0, 1, 2, 3]))
    with VirtualBoard(NETWORK, named_plan(NETWORK, name)) as board:
        options = ["--port", board.url, "--timeout", "600", "--dataset", str(tmp_path / "data.npz"), "--json", "--frames"]
        commands = (["selftest", *options, "2"], ["evaluate", *options, "4", "--out", str(tmp_path)])
        found = [CliRunner().invoke(main, [*command, str(tmp_path / "net.npz")]) for command in commands]
    tested, evaluated = (json.loads(result.stdout) for result in found)
    assert tested["passed"] and tested["checks"][0]["name"] == "frames"
    answers = [run(NETWORK, encode(NETWORK, image)).answer for image in IMAGES]
    assert (evaluated["mismatches"], evaluated["frames"]) == (0, 4)
    assert evaluated["accuracy"] == np.mean(np.array(answers) == np.arange(4))
