"""Fuzzing of the host's side and of the demo: both hold, and what is wrong in them is found out."""

import json

import pytest

from boards.demo_server import Demo
from boards.device import Answer, Device
from boards.fuzzing import host, http
from model.support.errors import DeviceError
from sim.fuzzing.child import read_inputs
from sim.fuzzing.judge import ACCEPTED, FAILED, REFUSED, judged


@pytest.mark.parametrize(
    ("target", "refused", "accepted"),
    [
        (host.TARGET, {"DeviceError", "UnansweredError"}, {"answers as the golden model", "garbled, answered all the same"}),
        (http.TARGET, {"status 400", "status 403", "status 405"}, {"a frame's answer, as the golden model's", "the page"}),
    ],
    ids=["host", "http"],
)
def test_a_way_in_holds(target, refused, accepted):
    found = read_inputs(target, 7, 0, 150, begins=lambda number: None)
    assert found["failures"] == []
    assert refused <= set(found[REFUSED]) and accepted <= set(found[ACCEPTED])


def script(asked, **pieces):
    return json.dumps({"asked": [asked], "pieces": {at.strip("_"): what for at, what in pieces.items()}}).encode()


def test_a_host_that_counts_wrongly_is_found_out(monkeypatch):
    host.TARGET.read(script("classify"), None)
    monkeypatch.setattr(Device, "_answer", lambda device, payload: Answer(0, (1, 2, 3, 4), 5))
    verdict = judged(host.TARGET, script("classify"), None)
    assert (verdict.outcome, verdict.kind) == (FAILED, "wrong") and verdict.message.startswith("classify must give ")


def test_a_host_that_waits_without_end_is_found_out(monkeypatch):
    """In virtual time: a device is silent, and the host asks on."""
    from boards.exchange import Exchange

    once = Exchange._once
    monkeypatch.setattr(Exchange, "_once", lambda self, *words: once(self, words[0], words[1], words[2], 1e9, words[4]))
    verdict = judged(host.TARGET, script("classify", _1=["lost", 1, 99_999]), None)
    assert (verdict.outcome, verdict.kind) == (FAILED, "AssertionError")
    assert verdict.message.startswith("AssertionError: the host still waits after 200.0 s")


def test_a_demo_that_answers_wrongly_is_found_out(monkeypatch):
    right = http.TARGET.seeds()[0]
    http.TARGET.read(right, None)
    assert judged(http.TARGET, right, None).kind == "a frame's answer, as the golden model's"
    monkeypatch.setattr(Demo, "classify", lambda demo, pixels, *, watch=False: {"answer": 9, "counts": [], "equal": True})
    verdict = judged(http.TARGET, right, None)
    assert (verdict.outcome, verdict.kind) == (FAILED, "wrong") and "must be the golden model's" in verdict.message
    monkeypatch.setattr(Demo, "classify", lambda demo, pixels, *, watch=False: len(3))
    assert judged(http.TARGET, right, None).kind == "TypeError"


def test_a_demo_that_answers_other_sites_is_found_out(monkeypatch):
    handler = http._server().RequestHandlerClass
    monkeypatch.setattr(handler, "_own_hosts", lambda handler: ["evil.example"])
    request = b"GET /about HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    verdict = judged(http.TARGET, request, None)
    assert (verdict.outcome, verdict.kind) == (FAILED, "wrong")
    assert verdict.message == "a request whose Host is ['evil.example'] must be refused"


def test_answers_of_the_next_number_without_end_are_no_wrong_answer(tmp_path):
    """A device that forges them cannot be told from an honest one; the operation during which they begin is refused."""
    script = {"asked": ["saturations", "identify", "classify", "events"], "pieces": {"2": ["endless", 1950314049, 1]}}
    with pytest.raises(DeviceError, match="bytes come without end"):
        host.TARGET.read(json.dumps(script).encode(), tmp_path)
