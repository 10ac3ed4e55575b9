"""Fuzzing: every way in holds, inputs are the same each time, and readers that are wrong are found out."""

import io
import itertools
import json
import random
import resource
import signal
import struct
import warnings
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from hw.link.protocol import RESULT, Command, Event, Status, pack_event, packet
from model.machine.plan import Plan
from model.support.errors import BadInputError
from sim.campaigns.jobs import DIFFERS, DONE, Job, perform
from sim.campaigns.report import Section
from sim.fuzzing import child, device, jobs, networks, plans
from sim.fuzzing.archives import archive_of, edited_archive
from sim.fuzzing.judge import ACCEPTED, FAILED, REFUSED, bounded, judged
from sim.fuzzing.messages import edited_message
from sim.fuzzing.mutations import edited_json
from sim.fuzzing.table import Row
from sim.fuzzing.targets import TARGETS, RefusedError, Target, WrongError, drawn, target_named
from tests.sim.fuzzing import deadly

FILES = ("network", "plan", "data", "onnx")


def read(target, count, seed=7):
    return child.read_inputs(target, seed, 0, count, begins=lambda number: None)


@pytest.mark.parametrize("name", FILES)
def test_a_way_in_holds(name):
    found = read(target_named(name), 60)
    assert found["failures"] == [] and found[FAILED] == {}
    refused, accepted = sum(found[REFUSED].values()), sum(found[ACCEPTED].values())
    assert refused + accepted == 60 and refused > 10 and accepted > 0


def test_what_comes_to_a_device_holds():
    found = read(target_named("device"), 40)
    assert found["failures"] == []
    assert {"BAD_CRC", "BAD_LENGTH", "TIMEOUT"} <= set(found[REFUSED])
    assert found[ACCEPTED]["answered as the protocol and the golden model say"] > 3
    device._Bench.switch_off()


@pytest.mark.parametrize("name", TARGETS)
def test_right_inputs_are_small(name):
    sizes = [len(content) for content in target_named(name).seeds()]
    assert len(sizes) >= 5 and max(sizes) < 8000


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_are_the_same_each_time(name):
    target = target_named(name)
    first = [drawn(target, 3, number) for number in range(20)]
    assert first == [drawn(target, 3, number) for number in range(20)]
    others = [drawn(target, 4, number) for number in range(20)]
    assert sum(one != other for one, other in zip(first, others, strict=True)) > 10
    assert all(content in target.seeds() for content, right in first if right)


def test_what_cannot_be_changed_by_its_meaning_gets_noise():
    target = replace(target_named("plan"), mutated=lambda content, chance: json.dumps(b"").encode())
    found = [drawn(target, 3, number) for number in range(20)]
    assert found == [drawn(target, 3, number) for number in range(20)]
    assert sum(content not in target.seeds() for content, _ in found) > 10


def test_json_is_changed_in_what_it_says():
    chance, parsed, deep = random.Random(1), 0, 0
    for _ in range(300):
        text = edited_json(b'{"a": [1, 2, {"b": "c"}], "d": true}', chance)
        try:
            parsed += json.loads(text) != {"a": [1, 2, {"b": "c"}], "d": True}
        except RecursionError:
            deep += 1
        except ValueError:
            pass
    assert parsed > 150 and deep > 0


def test_archives_are_changed_in_every_layer():
    chance, whole = random.Random(1), archive_of({"a": np.arange(6), "b": np.ones((2, 3), np.float32)})
    assert all((np.load(io.BytesIO(whole))[name] == value).all() for name, value in (("a", np.arange(6)), ("b", 1)))
    read_all = types = claims = 0
    for _ in range(200):
        content = edited_archive(whole, chance)
        claims += any(
            struct.unpack_from("<L", content, at + 24)[0] >= 1 << 27
            for at in range(len(content) - 46)
            if content[at : at + 4] == b"PK\1\2"
        )
        try:
            with np.load(io.BytesIO(content)) as archive:
                found = {name: archive[name] for name in archive.files}
            read_all += 1
            types += any(getattr(array, "dtype", None) not in (np.int64, np.float32) for array in found.values())
        except Exception:
            continue
    assert read_all > 50 and types > 5 and claims > 2


def test_messages_are_changed_in_what_they_say():
    chance, target = random.Random(1), target_named("onnx")
    whole, parsed = target.seeds()[0], 0
    for _ in range(100):
        model = onnx.ModelProto()
        try:
            model.ParseFromString(edited_message(whole, onnx.ModelProto, chance, ("Conv",)))
        except Exception:
            continue
        parsed += model.SerializeToString() != whole
    assert parsed > 70


def planted(reads, seconds=0.5):
    return Target(
        name="planted", ending=".bin", seeds=lambda: (b"right",), mutated=lambda content, _: b"wrong", read=reads, seconds=seconds
    )


def reader(does):
    """Reads right inputs rightly, and does something to the others."""

    def reads(content, folder):
        return "read" if content == b"right" else does()

    return reads


def refuse(line):
    raise BadInputError(line)


def refuse_for_memory():
    try:
        np.ones(1 << 30)
    except MemoryError:
        raise BadInputError("must be smaller") from None


def wrong():
    raise WrongError("2 must be 3")


def catch_all():
    """A loop without end that catches all errors."""
    for number in itertools.count():
        try:
            str(number)
        except Exception:
            break


def warn():
    warnings.warn("old", UserWarning, stacklevel=1)
    return "read"


@pytest.mark.parametrize(
    ("does", "kind", "message"),
    [
        (lambda: len(3), "TypeError", "TypeError: object of type 'int' has no len() (test_fuzzing.py:"),
        (catch_all, "hang", "takes more than 0.5 s of the processor"),
        (lambda: bytearray(2 << 30), "memory", "takes more than 512 MiB of memory"),
        (refuse_for_memory, "memory", "takes more than 512 MiB of memory"),
        (wrong, "wrong", "2 must be 3"),
        (warn, "warning", "UserWarning: old (test_fuzzing.py:"),
        (partial(refuse, "two\nlines"), "no line", "BadInputError must be a line to show, not 'two\\nlines'"),
        (partial(refuse, "\x1b[31m"), "no line", "BadInputError must be a line to show, not '\\x1b[31m'"),
        (partial(refuse, "x" * 5000), "no line", "BadInputError must be a line to show, not 'xxx"),
        (partial(refuse, ""), "no line", "BadInputError must be a line to show, not ''"),
    ],
    ids=["exception", "hang", "memory", "refused for memory", "wrong", "warning", "lines", "escape", "long", "nothing"],
)
def test_a_reader_that_is_wrong_is_found_out(does, kind, message, tmp_path):
    with bounded():
        verdict = judged(planted(reader(does)), b"wrong", tmp_path)
    assert (verdict.outcome, verdict.kind) == (FAILED, kind)
    assert verdict.message.startswith(message)


def test_what_is_refused_or_accepted(tmp_path):
    verdict = judged(planted(reader(partial(refuse, "must be right"))), b"wrong", tmp_path)
    assert (verdict.outcome, verdict.kind, verdict.message) == (REFUSED, "BadInputError", "must be right")
    assert judged(planted(reader(lambda: "seen")), b"wrong", tmp_path).kind == "seen"

    def no_reply():
        raise RefusedError("closed", kind="no reply")

    assert judged(planted(reader(no_reply)), b"wrong", tmp_path).kind == "no reply"
    # A right input must not be refused.
    verdict = judged(planted(reader(partial(refuse, "no"))), b"wrong", tmp_path, right=True)
    assert (verdict.outcome, verdict.kind) == (FAILED, "refused though right")
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_a_plan_that_is_written_wrongly_is_found_out(monkeypatch, tmp_path):
    save = Plan.save
    monkeypatch.setattr(Plan, "save", lambda plan, path: save(replace(plan, watch=not plan.watch), path))
    verdict = judged(plans.TARGET, plans.TARGET.seeds()[0], tmp_path)
    assert (verdict.outcome, verdict.kind) == (FAILED, "wrong")


def test_an_engine_that_differs_is_found_out(monkeypatch, tmp_path):
    monkeypatch.setattr(networks, "differing", lambda golden, fast: ["layer 'out': counts"])
    found = [judged(networks.TARGET, content, tmp_path) for content in networks.TARGET.seeds()]
    assert {(each.outcome, each.kind) for each in found} >= {(FAILED, "wrong")}


def test_a_device_that_answers_wrongly_is_found_out(monkeypatch):
    """The protocol's model says what the first packet gets: a frame that is answered otherwise is wrong."""
    device.TARGET.read(device.TARGET.seeds()[0], None)
    counts = device._counts
    monkeypatch.setattr(device, "_counts", lambda network, events: counts(network, events)[:-1] + b"\x7f")
    verdict = judged(device.TARGET, device.TARGET.seeds()[0], None)
    assert (verdict.outcome, verdict.kind) == (FAILED, "wrong") and verdict.message.startswith("an answer must be FRAME 1 ")
    assert device._Bench.wire is None


def test_a_system_stays_switched_on_where_an_input_is_refused():
    device.TARGET.read(device.TARGET.seeds()[0], None)
    wire, before = device._Bench.wire, device._Bench.inputs
    with pytest.raises(RefusedError, match="answered with silence"):
        device.TARGET.read(b"", None)
    assert device._Bench.wire is wire and device._Bench.inputs == before + 1
    device._Bench.switch_off()


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ((250, Command.FRAME, bytes(RESULT.size + 6)), f"FRAME 250 {bytes(RESULT.size + 6).hex()}"),
        ((21, Status.WATCHED, b"\1"), "WATCHED 21 01"),
    ],
)
def test_what_comes_late_to_a_host_is_found_out(answer, shown, monkeypatch):
    """Of what the input asks for only the form is known: nothing else would tell."""
    asked = (21, Command.STATE, bytes(7))
    content = packet(21, Command.STATE, pack_event(device.machine()[0], Event(port=1, c=3)))
    assert device.first_answer(content) is None
    monkeypatch.setattr(device._Bench, "wire", SimpleNamespace(send=lambda data: None))
    monkeypatch.setattr(device, "_probe", lambda *_: None)
    monkeypatch.setattr(device, "_taken", lambda _: [asked])
    assert device._sent(content) == "answered in form"
    monkeypatch.setattr(device, "_taken", lambda _: [answer, asked])
    with pytest.raises(WrongError, match=f"^nothing asks for {shown}$"):
        device._sent(content)


@pytest.mark.parametrize("alone", [False, True])
def test_what_is_wrong_is_asked_of_a_system_just_switched_on(alone, monkeypatch):
    """Of the four inputs to a system the last one is wrong, by itself or not."""
    again = WrongError("4 must be 5") if alone else RefusedError("silence")
    told = iter(["right", "right", "right", WrongError("2 must be 3"), again])

    def sent(content):
        device._Bench.inputs += 1
        found = next(told)
        if isinstance(found, str):
            return found
        raise found

    monkeypatch.setattr(device, "_sent", sent)
    monkeypatch.setattr(device._Bench, "inputs", 0)
    verdicts = [judged(device.TARGET, b"", None) for _ in range(4)]
    assert [each.outcome for each in verdicts] == [ACCEPTED, ACCEPTED, ACCEPTED, FAILED]
    after = "2 must be 3; only after 3 inputs, not by a system that was just switched on"
    assert (verdicts[3].kind, verdicts[3].message) == ("wrong", "4 must be 5" if alone else after)


class _Process:
    """In the place of a process: inputs 3 and 7 end it."""

    def __init__(self, deadly):
        self.deadly, self.asked = deadly, []

    def __call__(self, target, seed, first, count, folder):
        self.asked.append((first, count))
        died = next((number for number in self.deadly if first <= number < first + count), None)
        if died is not None:
            return None, died, "SIGSEGV"
        return {"inputs": count, "bytes": count, REFUSED: {}, ACCEPTED: {"x": count}, FAILED: {}, "failures": []}, 0, ""


def test_an_input_that_ends_the_process_takes_no_other_along(monkeypatch, tmp_path):
    process = _Process([23, 27])
    monkeypatch.setattr(jobs, "_in_a_process", process)
    job = Job(kind="fuzz-plan", version="1", parameters={"seed": 1, "inputs": 10, "number": 2})
    outcome = perform(jobs.FUZZ["plan"], job, tmp_path)
    assert outcome.outcome == DIFFERS
    assert outcome.message == "input 23: SIGSEGV: SIGSEGV\ninput 27: SIGSEGV: SIGSEGV"
    assert (outcome.found["inputs"], outcome.found[ACCEPTED], outcome.found[FAILED]) == (10, {"x": 8}, {"SIGSEGV": 2})
    assert set(outcome.files) == {"23.json", "27.json", "failures.json"}
    assert outcome.files["23.json"] == drawn(plans.TARGET, 1, 23)[0]


def test_compiled_code_that_crashes_or_hangs(monkeypatch, tmp_path):
    """In real processes: of three inputs one ends it, and one never ends by itself."""
    monkeypatch.setitem(TARGETS, "deadly", (deadly.__name__, "Ends processes."))
    all_drawn = [drawn(deadly.TARGET, 1, number)[0] for number in range(60)]
    batch = next(n for n in range(20) if sorted(all_drawn[3 * n : 3 * n + 3]) == [b"0", b"1", b"2"])
    wanted = {b"1": "SIGSEGV", b"2": "hang"}
    failing = {number: wanted[all_drawn[number]] for number in range(3 * batch, 3 * batch + 3) if all_drawn[number] in wanted}
    job = Job(kind="fuzz-deadly", version="1", parameters={"seed": 1, "inputs": 3, "number": batch})
    kind = replace(jobs.FUZZ["plan"], run=partial(jobs.fuzz, "deadly"))
    outcome = perform(kind, job, tmp_path)
    assert outcome.outcome == DIFFERS, outcome.message
    found = json.loads(outcome.files["failures.json"])
    assert {each["number"]: each["kind"] for each in found} == failing
    assert outcome.found["inputs"] == 3 and outcome.found[ACCEPTED] == {"read": 1}


def test_a_job_in_its_process(tmp_path):
    job = Job(kind="fuzz-plan", version="1", parameters={"seed": 1, "inputs": 50, "number": 1})
    outcome = perform(jobs.FUZZ["plan"], job, tmp_path)
    assert outcome.outcome == DONE, outcome.message
    assert outcome.found["inputs"] == 50 and sum(outcome.found[REFUSED].values()) > 20 and outcome.files == {}


def test_a_row_of_the_table():
    found = {"inputs": 2000, REFUSED: {f"K{n}": n for n in range(1, 7)}, ACCEPTED: {"seen": 1979}, FAILED: {"hang": 1}}
    section = Section(
        kind="fuzz-plan", version="a" * 64, jobs=1, differ=0, failed=0, found=found, seeds={"seed 1": "0..1"},
        processor_seconds=61.0,
    )  # fmt: skip
    assert Row(target="plan", section=section).line() == [
        "plan", "2,000", "1.1 %", "99.0 %", "1 hang", "K6 6; K5 5; K4 4; K3 3; 2 others 3", "seen 1,979", "a" * 16,
        "seed 1: 0..1", "1 min 1 s",
    ]  # fmt: skip


def test_the_limits_of_a_process_are_as_before():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with bounded(1 << 20):
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] != before[0]
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
