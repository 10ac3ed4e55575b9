"""The demo: what its server says, and its page in a real browser."""

import json
import re
import shutil
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest
from click.testing import CliRunner

from boards.demo import main
from boards.demo_server import Demo, serve
from boards.device import Device
from boards.frames import Frames
from boards.virtual_board import VirtualBoard
from model.encode import encode
from model.golden import run
from model.machine.named_plans import named_plan
from tests.hardware import random_network

NETWORK = random_network(2)
PLAN = named_plan(NETWORK, "minimal")
IMAGES = np.random.default_rng(0).integers(0, 256, (3, *NETWORK.input_shape), dtype=np.uint8)


@contextmanager
def served(network, plan, images, labels):
    with VirtualBoard(network, plan) as board, Device.open(board.url, timeout=60) as device:
        demo = Demo(network, plan, device, 60e6, "virtual board", Frames(images, labels, "frames"))
        with serve(demo, 0) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield f"http://localhost:{server.server_address[1]}"
            finally:
                server.shutdown()
                thread.join()


@pytest.fixture(scope="module")
def url():
    with served(NETWORK, PLAN, IMAGES, np.array([0, 1, 2])) as found:
        yield found


def ask(url, body=None):
    request = urllib.request.Request(url, data=body if body is None or isinstance(body, bytes) else json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_the_page_loads_nothing_from_elsewhere(url):
    with urllib.request.urlopen(url + "/") as reply:
        page = reply.read().decode()
    assert "<title>Tally</title>" in page
    for word in ("http://", "https://", "@import", " src="):
        assert word not in page


def test_what_is_on_the_board(url):
    status, about = ask(url + "/about")
    assert status == 200
    assert (about["network"], about["input"], about["digits"]) == (NETWORK.name, list(NETWORK.input_shape), 3)
    assert [layer["name"] for layer in about["layers"]] == [layer.name for layer in NETWORK.layers]
    assert ask(url + "/digit?index=4")[1] == {"index": 1, "label": 1, "pixels": IMAGES[1].reshape(-1).tolist()}


@pytest.mark.parametrize("watch", [False, True])
def test_a_frame_and_every_spike_of_it(url, watch):
    status, found = ask(url + "/classify", {"pixels": IMAGES[0].reshape(-1).tolist(), "watch": watch})
    trace = run(NETWORK, encode(NETWORK, IMAGES[0]))
    assert status == 200
    assert (found["answer"], found["counts"], found["equal"]) == (trace.answer, trace.counts.tolist(), True)
    assert found["watched"] is watch
    assert found["cycles"] > 0
    for name, layer in trace.layers.items():
        assert found["layers"][name]["address"] == layer.spikes["address"].tolist()
    assert found["counts_over_time"][-1] == found["counts"]
    output = NETWORK.output
    assert found["potentials_over_time"][-1] == (trace.potentials * 100 // output.theta).tolist()
    answers = np.array(found["counts_over_time"]).argmax(axis=1)
    assert (answers[found["early"] :] == trace.answer).all()
    assert found["early"] == 0 or answers[found["early"] - 1] != trace.answer


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "a frame must be JSON: Expecting property name"),
        ({"pixels": 3}, "pixels must be a list of numbers"),
        ({"pixels": [1, 2]}, f"pixels must be {NETWORK.input_shape.size} whole numbers within 0..255"),
        ({"pixels": [256] * NETWORK.input_shape.size}, f"pixels must be {NETWORK.input_shape.size} whole numbers within 0..255"),
    ],
)
def test_a_bad_frame_gets_one_line(url, body, message):
    status, found = ask(url + "/classify", body)
    assert status == 400
    assert found["error"].startswith(message)
    assert ask(url + "/nothing")[0] == 404


def test_terminal(tmp_path, monkeypatch):
    NETWORK.save(tmp_path / "net.npz")
    labels = np.array([3, 1, 2])
    np.savez(tmp_path / "data.npz", images=IMAGES, labels=labels)
    options = ["--net", str(tmp_path / "net.npz"), "--plan", "minimal", "--dataset", str(tmp_path / "data.npz"), "--terminal"]
    found = CliRunner().invoke(main, options, input="\n2\nq\n")
    assert found.exit_code == 0, found.output
    # Its lines are folded to the terminal's width.
    text = " ".join(found.output.split())
    assert text.count("equal to the golden model") == 3
    assert re.findall(r"\ba (\d);", text) == ["3", "1", "2"]


@pytest.mark.full
def test_the_page_in_a_browser(tmp_path):
    """Chromium: a real digit, one that is drawn by mouse, one by keyboard, and no sideways scrolling on a phone."""
    if not shutil.which("chromedriver"):
        pytest.skip("chromedriver is not installed; get it with: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    from boards.bundled import BUNDLED
    from model.network import Network
    from model.support.frames import real_frames

    network = Network.load(BUNDLED)
    images, labels, _ = real_frames(network, "digits5k", None, 5)
    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--force-prefers-reduced-motion"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    with served(network, named_plan(network, "default"), images, labels) as url, webdriver.Chrome(options, service) as browser:

        def text(name):
            return browser.find_element(By.ID, name).text

        def settled():
            deadline = time.monotonic() + 120
            while "golden model" not in text("verdict"):
                assert time.monotonic() < deadline, text("verdict")
                time.sleep(0.1)
            return text("verdict"), text("answer")

        browser.set_window_size(1200, 1400)
        browser.get(url)
        assert settled() == ("every count equal to the golden model", str(labels[0]))
        canvas = browser.find_element(By.ID, "draw")
        browser.find_element(By.ID, "clear").click()
        assert text("answer") == "–"
        stroke = ActionChains(browser).move_to_element_with_offset(canvas, 0, -90).click_and_hold()
        stroke.move_by_offset(0, 90).move_by_offset(0, 90).release().perform()
        assert settled() == ("every count equal to the golden model", "1")
        browser.find_element(By.ID, "clear").click()
        browser.execute_script("arguments[0].focus()", canvas)
        keys = ActionChains(browser).send_keys(Keys.ARROW_UP * 9).key_down(" ")
        for _ in range(18):
            keys.send_keys(Keys.ARROW_DOWN)
        keys.key_up(" ").perform()
        assert settled() == ("every count equal to the golden model", "1")
        browser.set_window_size(500, 900)
        time.sleep(0.5)
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
