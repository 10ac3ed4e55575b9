"""The demo: what its server says, and its page in a real browser."""

import base64
import contextlib
import hashlib
import itertools
import json
import re
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from boards.demo import main
from boards.demo_server import CONNECTIONS, Demo, serve
from boards.device import Device
from boards.frames import Frames
from boards.listening import LOOPBACK
from boards.virtual_board import VirtualBoard
from hw.link.protocol import Command, packet
from model.encode import encode
from model.golden import run
from model.machine.named_plans import named_plan
from model.network import Network, Padding
from model.rest import first_states
from sim.generators.graphs import random_graph
from sim.generators.networks import mixed, random_convolution, random_linear, random_network
from tests.addresses import has_ipv6
from tests.boards.fake_device import FakeDevice
from tests.boards.fake_device import served as fake

NETWORK = random_network(2)
PLAN = named_plan(NETWORK, "minimal")
GRAPH = 7
"""Of a random graph whose output takes three sources."""
IMAGES = np.random.default_rng(0).integers(0, 256, (3, *NETWORK.input_shape), dtype=np.uint8)


@contextmanager
def served(network, plan, images, labels):
    with VirtualBoard(network, plan) as board, Device.open(board.url, timeout=60, clock=board.seconds) as device:
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
    assert (about["network"], about["input"], about["frames"]) == (NETWORK.name, list(NETWORK.input_shape), 3)
    assert [(layer["name"], layer["sources"]) for layer in about["layers"]] == [
        (layer.name, [layer.source]) for layer in NETWORK.layers
    ]
    assert about["class_names"] == [str(number) for number in range(NETWORK.outputs)]
    assert ask(url + "/frame?index=4")[1] == {"index": 1, "label": 1, "pixels": IMAGES[1].reshape(-1).tolist()}


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


@pytest.mark.parametrize(("firing", "every"), [("immediate", 0), ("deferred", 0), ("deferred", 9)])
def test_answers_so_far(firing, every):
    """Of a network whose frames start from counts of rest, of one whose output takes averaged windows, and of a graph."""
    graph = replace(random_graph(GRAPH, firing=firing, wide=True), rest=True, flush_events=every)
    assert graph.output.joined
    for network in (mixed(3, firing=firing, rest=True, flush_events=every, wide=True), averaging(firing, every), graph):
        demo = Demo(network, named_plan(random_network(2), "minimal"), None, 60e6, "none", Frames(IMAGES, None, "frames"))
        image = np.random.default_rng(4).integers(0, 256, network.input_shape, dtype=np.uint8)
        events = encode(network, image)
        found = demo._over_time(run(network, events))
        last, early = run(network, events).answer, found["early"]
        # The first after which the answer is the last one, and that before it, which has another or none yet.
        for number in {0, len(events) // 3, len(events) * 3 // 4, max(early - 1, 0), early, len(events)}:
            come = number if firing == "immediate" or number == len(events) else number // every * every if every else 0
            if firing == "deferred" and come == 0:
                assert number < early
                continue
            trace = run(network, events[:come])
            assert found["counts_over_time"][number] == trace.counts.tolist()
            assert found["potentials_over_time"][number] == (trace.potentials * 100 // network.output.theta).tolist()
            assert number < early or trace.answer == last
            assert number != early - 1 or trace.answer != last
        first = first_states(network)[network.layers[0].name].count
        assert demo.about["layers"][0]["first_counts"] == first.reshape(-1).tolist()


def averaging(firing, every):
    conv = random_convolution(5, inputs=1, channels=3, kernel=(3, 3), stride=(1, 1), padding=Padding(), name="conv1")
    last = random_linear(6, inputs=3 * 2, outputs=4, name="fc", source="conv1", averaged=(4, 2), activation="identity")
    return Network(name="averaging", input_shape=(6, 6, 1), layers=(conv, last), firing=firing, flush_events=every)


def honest(
    network, images, labels=None, *, lie=lambda sequence, command, payload: None, timeout=60.0, seconds=60.0, address=LOOPBACK
):
    """A demo of a device in this process, which answers as the golden model where it does not lie.

    It has ``timeout`` seconds for an answer, once it has said what it is, and a request ``seconds``.
    """
    stack = contextlib.ExitStack()
    plan = named_plan(network, "minimal")
    url = stack.enter_context(fake(FakeDevice(network, plan, lie)))
    device = stack.enter_context(Device.open(url, timeout=60, retries=0))
    device._exchange.timeout = timeout
    demo = Demo(network, plan, device, 60e6, "fake", Frames(images, labels, "frames"))
    server = stack.enter_context(serve(demo, 0, seconds=seconds, address=address))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    stack.callback(thread.join)
    stack.callback(server.shutdown)
    return stack, server.server_address[1]


def spoken(port, request):
    """All that a server says to these bytes, until it closes the connection."""
    with socket.create_connection(("localhost", port), timeout=60) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(request)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while more := connection.recv(4096):
                said += more
        return said.decode()


def to(port, request):
    """A request with the server's name in it."""
    return re.sub(rb"(HTTP/1\.[01]\r\n)", rb"\1Host: localhost:%d\r\n" % port, request, count=1)


def post(body, length=None):
    return b"POST /classify HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body) if length is None else length, body)


LENGTH = "Content-Length must be a number of bytes, and no Transfer-Encoding there"
MOST = 16 * NETWORK.input_shape.size + 1024
LINES = "headers must be lines of a name, a colon and a value"


@pytest.mark.parametrize(
    ("request_bytes", "message"),
    [
        (post(b"[" * MOST), "a frame must be a list of numbers, not lists within lists"),
        (post(b'{"a":' * (MOST // 5)), "a frame must be JSON: Expecting value"),
        (post(b'{"pixels": [' + b"[" * 900 + b"]" * 900 + b"]}"), f"pixels must be {NETWORK.input_shape.size} whole numbers"),
        (post(b'{"pixels": [true, 1e999]}'), f"pixels must be {NETWORK.input_shape.size} whole numbers"),
        (post(b'{"pixels": [' + b"9" * 1500 + b"]}"), f"pixels must be {NETWORK.input_shape.size} whole numbers"),
        (post(b"\xff\xfe\xfd"), "a frame must be JSON: "),
        (post(b" " * (MOST + 1)), f"a frame must take at most {MOST} bytes, not {MOST + 1}"),
        (post(b"{}", -5), f"{LENGTH}, not '-5'"),
        (b"POST /classify HTTP/1.0\r\n\r\n", f"{LENGTH}, not ''"),
        (b"POST /classify HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 20\r\n\r\n{}", f"{LENGTH}, not '2,20'"),
        (b"POST /classify HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", f"{LENGTH}, not ''"),
        (b"POST /classify HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}", f"{LENGTH}, not '2'"),
    ],
    ids=["lists", "objects", "lists within", "no whole numbers", "a long number", "no text", "too long", "below 0", "no length",
         "two lengths", "chunks", "chunks and a length"],
)
def test_a_request_that_cannot_be_gets_one_line(request_bytes, message, capfd):
    stack, port = honest(NETWORK, IMAGES)
    with stack:
        said = spoken(port, to(port, request_bytes))
        head, _, body = said.partition("\r\n\r\n")
        assert head.startswith("HTTP/1.0 400 ")
        error = json.loads(body)["error"]
        assert error.startswith(message) and "\n" not in error
        assert ask(f"http://localhost:{port}/about")[0] == 200
    # No traceback from the server's thread.
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("request_bytes", "status", "message"),
    [
        (b"GET /about HTTP/1.1\r\nHost: evil.example:PORT\r\n\r\n", 403, "HOST, not evil.example:PORT"),
        (b"GET /about HTTP/1.1\r\nHost: localhost:1\r\n\r\n", 403, "HOST, not localhost:1"),
        (b"GET /about HTTP/1.1\r\nHost: localhost.evil.example:PORT\r\n\r\n", 403, "HOST, not localhost.evil.example:PORT"),
        (b"GET /about HTTP/1.1\r\nHost: localhost:PORT\r\nHost: evil\r\n\r\n", 403, "HOST, not localhost:PORT, evil"),
        (b"GET /about HTTP/1.0\r\n\r\n", 403, "HOST, not left out"),
        (b"GET /about\r\n\r\n", 403, "HOST, not left out"),
        (
            b"POST /classify HTTP/1.1\r\nHost: localhost:PORT\r\nOrigin: http://evil.example\r\nContent-Length: 2\r\n\r\n{}",
            403,
            "Origin must be http://localhost:PORT, not http://evil.example",
        ),
        (
            b"POST /classify HTTP/1.1\r\nHost: localhost:PORT\r\nOrigin: null\r\nContent-Length: 2\r\n\r\n{}",
            403,
            "Origin must be http://localhost:PORT, not null",
        ),
        (
            b"GET /about HTTP/1.1\r\nHost: localhost:PORT\r\nOrigin: http://127.0.0.1:PORT\r\n\r\n",
            403,
            "Origin must be http://localhost:PORT, not http://127.0.0.1:PORT",
        ),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 404, "/../../etc/passwd: not found"),
        (b"GET //a\x1b[2J HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 404, "/a [2J: not found"),
        (b"GET http://x/about HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 404, "http://x/about: not found"),
        (
            b"GET /frame?index=-1 HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n",
            404,
            "/frame: index must be a number of at most nine digits",
        ),
        (b"GET /classify HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 405, "/classify: method must be POST, not GET"),
        (b"OPTIONS /classify HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 405, "/classify: method must be POST, not OPTIONS"),
        (b"PUT / HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Length: 3\r\n\r\nabc", 405, "/: method must be GET, not PUT"),
        (b"<script> / HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 405, "/: method must be GET, not <script>"),
        (b"GET /about HTTP/0.9\r\nHost: evil:PORT\r\n\r\n", 403, "HOST, not evil:PORT"),
        (b"GET /about HTTP/1.1\r\nHost: localhost:PORT\r\nno colon\r\nOrigin: http://evil.example\r\n\r\n", 400, LINES),
        (b"GET /about HTTP/1.1\r\nHost: localhost:PORT\rOrigin: http://evil.example\r\n\r\n", 400, LINES),
        (b"GET /about HTTP/1.1\r\nHost: localhost:PORT\r\nA: b\x85Origin: http://evil.example\r\n\r\n", 400, LINES),
        (b"GET / HTTP/3.0\r\n\r\n", 505, "Invalid HTTP version (3.0)"),
        (b"GET / and more HTTP/1.1\r\n\r\n", 400, "Bad request syntax ('GET / and more HTTP/1.1')"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 431, "first line and headers must be at most 16384 bytes"),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 20_000 + b"\r\n\r\n", 431, "first line and headers must be at most 16384 bytes"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 120 + b"\r\n", 431, "Too many headers"),
    ],
)
def test_who_is_no_page_of_this_server_gets_one_line(server, request_bytes, status, message, capfd):
    def filled(text):
        return text.replace("HOST", "Host must be 127.0.0.1:PORT or localhost:PORT").replace("PORT", str(server))

    head, _, body = spoken(server, request_bytes.replace(b"PORT", b"%d" % server)).partition("\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    assert head.startswith(f"HTTP/1.0 {status} ")
    assert json.loads(body) == {"error": filled(message)}
    assert headers["Content-Type"] == "application/json"
    assert headers.get("Allow") == ({"/classify": "POST"}.get(message.split(":")[0], "GET") if status == 405 else None)
    assert_safe(headers, "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    assert capfd.readouterr().err == ""


def assert_safe(headers, policy):
    wanted = {
        "Server": "Tally",
        "Content-Security-Policy": policy,
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    assert {name: headers.get(name) for name in wanted} == wanted
    assert not any(name.lower().startswith("access-control-") for name in headers)


@pytest.fixture(scope="module")
def server():
    stack, port = honest(NETWORK, IMAGES)
    with stack:
        yield port


def test_headers_that_do_not_end(server):
    with socket.create_connection(("localhost", server), timeout=60) as connection:
        connection.sendall(to(server, b"GET /about HTTP/1.1\r\n"))
        connection.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
    assert said.startswith("HTTP/1.0 400 ") and json.loads(said.partition("\r\n\r\n")[2]) == {"error": LINES}


def test_the_page_may_run_its_own_script_and_no_other(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server}/") as reply:
        headers, page = dict(reply.headers), reply.read().decode()
    own = {}
    for kind in ("script", "style"):
        text = re.search(rf"<{kind}>(.*)</{kind}>", page, re.DOTALL)[1]
        own[kind] = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert_safe(
        headers,
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        f"script-src 'sha256-{own['script']}'; style-src 'sha256-{own['style']}'; img-src data:; connect-src 'self'",
    )
    # What the policy would not let work.
    assert re.findall(r" style=| on[a-z]+=|innerHTML|insertAdjacent|document\.write|eval\(", page) == []


def test_head_has_no_body(server):
    said = spoken(server, to(server, b"HEAD / HTTP/1.1\r\n\r\n"))
    assert said.startswith("HTTP/1.0 405 ") and said.endswith("\r\n\r\n")


def test_requests_at_once_are_bounded(server):
    """Connections that say nothing take no more than their share of threads, and those beyond are closed."""
    address = ("127.0.0.1", server)
    threads = threading.active_count()
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(CONNECTIONS + 8)]
        # The last is refused when all before it are served or refused.
        assert silent[-1].recv(1) == b""
        assert threading.active_count() <= threads + CONNECTIONS
    deadline = time.monotonic() + 60
    while (threading.active_count() > threads) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ask(f"http://127.0.0.1:{server}/about")[0] == 200


def test_another_address_of_this_machine():
    if not has_ipv6():
        with pytest.raises(OSError, match=r"[Aa]ddress"):
            honest(NETWORK, IMAGES, address="::1")
        return
    stack, port = honest(NETWORK, IMAGES, address="::1")
    with stack:
        assert ask(f"http://[::1]:{port}/about")[0] == 200
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=60)


def test_every_address_of_this_machine():
    stack, port = honest(NETWORK, IMAGES, address="0.0.0.0")
    with stack:
        assert ask(f"http://127.0.0.2:{port}/about")[0] == 200
        assert spoken(port, b"GET /about HTTP/1.1\r\nHost: 127.0.0.2:%d\r\n\r\n" % port).startswith("HTTP/1.0 403 ")


@pytest.mark.parametrize(
    ("begun", "status"),
    [(b"", None), (b"GET /about HTT", None), (b"GET /about HTTP/1.0\r\nHost:", None), (post(b"{", 100), "408 Request Timeout")],
    ids=["silence", "line", "header", "body"],
)
def test_a_slow_request_ends_and_holds_nobody(begun, status, capfd):
    stack, port = honest(NETWORK, IMAGES, seconds=0.5)
    with stack, contextlib.ExitStack() as slow:
        connections = [slow.enter_context(socket.create_connection(("localhost", port), timeout=60)) for _ in range(8)]
        for connection in connections:
            connection.sendall(to(port, begun))
        assert ask(f"http://localhost:{port}/about")[0] == 200
        for connection in connections:
            said = b"".join(iter(lambda connection=connection: connection.recv(4096), b"")).decode()
            # On a busy machine time may be over before the request has begun.
            assert said == "" or said.startswith(f"HTTP/1.0 {status}"), said
    assert capfd.readouterr().err == ""


def test_a_request_that_comes_a_byte_at_a_time_ends():
    stack, port = honest(NETWORK, IMAGES, seconds=0.5)
    with stack, socket.create_connection(("localhost", port), timeout=60) as connection:
        ended = False
        for _ in range(10_000):
            try:
                connection.sendall(b"x")
            except OSError:
                ended = True
                break
            time.sleep(0.01)
        assert ended


def test_a_device_that_goes_wrong_is_said(capfd):
    for lie, message in (
        (lambda n, c, p: [packet(n, c, p[:-1])] if c == Command.FRAME else None, "a result must have "),
        (lambda n, c, p: itertools.repeat(b"text \x1b[2J") if c == Command.FRAME else None, "no answer to frame within 0.5 s"),
    ):
        stack, port = honest(NETWORK, IMAGES, lie=lie, timeout=0.5)
        with stack:
            status, found = ask(f"http://localhost:{port}/classify", {"pixels": IMAGES[0].reshape(-1).tolist()})
            assert status == 502 and message in found["error"]
    assert capfd.readouterr().err == ""


def test_frames_without_a_class():
    stack, port = honest(NETWORK, IMAGES)
    with stack:
        assert ask(f"http://localhost:{port}/frame?index=0")[1]["label"] is None
        assert ask(f"http://localhost:{port}/frame?index=" + "9" * 5000)[0] == 404
        status, found = ask(f"http://localhost:{port}/classify", {"pixels": IMAGES[0].reshape(-1).tolist(), "watch": True})
        assert (status, found["equal"], found["differs"]) == (200, True, "")


def test_terminal_with_json(tmp_path):
    """A line for each frame; one that has no class has no label."""
    NETWORK.save(tmp_path / "net.npz")
    with fake(FakeDevice(NETWORK, PLAN)) as url:
        options = ["--port", url, str(tmp_path / "net.npz"), "--terminal", "--json"]
        found = CliRunner().invoke(main, options, input="\n5\nq\n")
        assert found.exit_code == 0, found.output
        lines = [json.loads(line) for line in found.stdout.splitlines()]
        wanted = [(0, None, True), (1, None, True), (5, None, True)]
        assert [(line["frame"], line["label"], line["equal"]) for line in lines] == wanted
        refused = CliRunner().invoke(main, [*options, "--board", "icebreaker"])
    message = "error: --board must not be given with --port: the device says what is on it\n"
    assert (refused.exit_code, refused.stderr) == (2, message)


def test_terminal(tmp_path, monkeypatch):
    NETWORK.save(tmp_path / "net.npz")
    labels = np.array([3, 1, 2])
    np.savez(tmp_path / "data.npz", images=IMAGES, labels=labels)
    options = [str(tmp_path / "net.npz"), "--plan", "minimal", "--dataset", str(tmp_path / "data.npz"), "--terminal"]
    found = CliRunner().invoke(main, options, input="\n2\nq\n")
    assert found.exit_code == 0, found.output
    # Its lines are folded to the terminal's width.
    text = " ".join(found.output.split())
    assert text.count("equal to the golden model") == 3
    assert re.findall(r"\ba (\d);", text) == ["3", "1", "2"]


@pytest.mark.full
def test_the_page_in_a_browser(tmp_path):
    """Chromium: a real digit, digits that are drawn by mouse and by keyboard, an image, and no sideways scrolling on a phone."""
    if not shutil.which("chromedriver"):
        pytest.skip("chromedriver is not installed; get it with: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    from boards.bundled import chosen_for
    from boards.definitions import board_named
    from model.machine.named_plans import load_plan
    from model.network import Network
    from model.support.frames import real_frames

    net, plan = chosen_for(board_named("ulx3s-85f"), None, None)
    network = Network.load(net)
    images, labels, _ = real_frames(network, "digits5k", None, 5)
    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--force-prefers-reduced-motion"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    with served(network, load_plan(network, plan), images, labels) as url, webdriver.Chrome(options, service) as browser:

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
        # A digit of ten times the size, with black at its sides, becomes the digit again.
        large = Image.fromarray(np.pad(images[1][:, :, 0], ((0, 0), (28, 28)))).resize((840, 280), Image.Resampling.NEAREST)
        large.save(tmp_path / "digit.png")
        browser.find_element(By.ID, "file").send_keys(str(tmp_path / "digit.png"))
        assert settled() == ("every count equal to the golden model", str(labels[1]))
        (tmp_path / "text.png").write_text("text")
        browser.find_element(By.ID, "file").send_keys(str(tmp_path / "text.png"))
        WebDriverWait(browser, 60).until(lambda _: text("verdict") == "text.png must be an image that the browser can read")
        boxes = browser.find_elements(By.CSS_SELECTOR, "#graph g")
        names = ["input", *(layer.name for layer in network.layers)]
        assert [box.get_attribute("aria-label") for box in boxes] == [f"map of {name}" for name in names]
        assert len(browser.find_elements(By.CSS_SELECTOR, "#graph path")) == len(network.layers)
        browser.set_window_size(500, 900)
        time.sleep(0.5)
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
