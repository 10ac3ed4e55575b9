"""The results store: a job is there once, whole or not at all; what it refuses; several of them as one."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from model.support.errors import OutputError
from sim.campaigns.jobs import DIFFERS, DONE, FAILED, Job, Outcome
from sim.campaigns.store import Store, StoreError, merged


def job(number, *, kind="tiny", version="1"):
    return Job(kind=kind, version=version, parameters={"seed": 1, "number": number})


def test_a_key_is_of_the_content():
    """The same on every machine and in every order of parameters; another one for whatever is different."""
    key = job(2).key
    assert key == "6cfa17a14021fb980f301476e981e1f71f775f7cdd2dfd51b2e39795faf7dc58"
    assert key == Job(kind="tiny", version="1", parameters={"number": 2, "seed": 1}).key
    others = [job(3), job(2, kind="other"), job(2, version="2"), Job(kind="tiny", version="1", parameters={"number": 2})]
    assert len({key, *(other.key for other in others)}) == 5
    assert str(job(2)) == "tiny seed 1, number 2"


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "deep" / "a b#?.sqlite"
    outcome = Outcome(outcome=DONE, found={"spikes": 3, "layers": {"linear": 2}, "tools": ["x 1"]}, seconds=1.5)
    with Store(path, new=True) as store:
        assert store.add(job(1), outcome)
        assert store.add(job(2, version="2"), outcome)
        assert store.add(job(3, kind="other"), outcome)
        assert [(result.job, result.outcome) for result in store.results("tiny", "1")] == [(job(1), outcome)]
    with Store(path) as store:
        assert {result.job.key for result in store.results()} == {
            job(1).key, job(2, version="2").key, job(3, kind="other").key
        }  # fmt: skip
        assert [result.job for result in store.starting_with(job(1).key[:12])] == [job(1)]
        assert store.starting_with("%") == []
        assert not store.failures.exists()


def test_a_job_is_counted_once(tmp_path):
    first, second = (Outcome(outcome=DONE, found={"spikes": number}) for number in (1, 2))
    with Store(tmp_path / "a.sqlite", new=True) as store:
        assert [store.add(job(1), first), store.add(job(1), second), store.add(job(1), first)] == [True, False, False]
        assert [result.outcome for result in store.results()] == [first]
        store.forget(job(1))
        assert list(store.results()) == []
        assert store.add(job(1), second)
    with Store(tmp_path / "a.sqlite", new=True) as store:
        assert [result.outcome for result in store.results()] == [second]


def test_a_failed_job_has_its_files(tmp_path):
    outcome = Outcome(outcome=FAILED, message="no\nwater", files={"network.npz": b"\0\1", "simulation/a.log": b"dry\n"})
    with Store(tmp_path / "a.sqlite", new=True) as store:
        store.add(job(1), outcome)
        (result,) = store.results()
        folder = store.folder_of(job(1))
    assert (result.outcome.outcome, result.outcome.message, result.outcome.files) == (FAILED, "no\nwater", {})
    assert folder == tmp_path / "a.failures" / job(1).key[:16]
    assert (folder / "network.npz").read_bytes() == b"\0\1"
    assert (folder / "simulation" / "a.log").read_text() == "dry\n"
    assert (folder / "message.txt").read_text() == "no\nwater\n"
    assert '"number": 1' in (folder / "job.json").read_text()


def test_several_stores_as_one(tmp_path):
    """What is in two of them is counted once; one that differs in any of them differs."""
    outcomes = {DONE: Outcome(outcome=DONE), FAILED: Outcome(outcome=FAILED), DIFFERS: Outcome(outcome=DIFFERS)}
    first = {1: DONE, 2: DONE, 3: FAILED, 4: DIFFERS, 5: DONE}
    second = {1: DONE, 2: DIFFERS, 3: DONE, 4: FAILED, 6: DONE}
    stores = []
    for number, content in enumerate((first, second)):
        stores.append(Store(tmp_path / f"{number}.sqlite", new=True))
        for key, outcome in content.items():
            stores[-1].add(job(key), outcomes[outcome])
    wanted = {1: DONE, 2: DIFFERS, 3: FAILED, 4: DIFFERS, 5: DONE, 6: DONE}
    for order in (stores, stores[::-1]):
        assert {result.job.parameters["number"]: result.outcome.outcome for result in merged(order)} == wanted
    for store in stores:
        store.__exit__()


def test_one_campaign_at_a_time_writes_and_others_read(tmp_path):
    path = tmp_path / "a.sqlite"
    with Store(path, new=True) as store:
        store.add(job(1), Outcome(outcome=DONE))
        with pytest.raises(StoreError, match=r"^.*a\.sqlite: another campaign writes to it$"):
            Store(path, new=True)
        with Store(path) as other:
            assert len(list(other.results())) == 1
            with pytest.raises(StoreError, match=r"readonly"):
                other.add(job(2), Outcome(outcome=DONE))
    with Store(path, new=True) as store:
        assert len(list(store.results())) == 1


def made(path, *statements):
    base = sqlite3.connect(path)
    for statement in statements:
        base.execute(statement)
    base.commit()
    base.close()


@pytest.mark.parametrize("new", [False, True])
def test_what_is_no_store(new, tmp_path):
    path = tmp_path / "a.sqlite"
    if not new:
        with pytest.raises(StoreError, match=r"a\.sqlite: cannot be read: No such file or directory$"):
            Store(path)
        path.touch()
        with pytest.raises(StoreError, match=r"a\.sqlite: must be a campaign's results store$"):
            Store(path)
    path.write_text("no base at all, but some text that is long enough to be one\n" * 20)
    message = r"a\.sqlite: must be a campaign's results store that can be used: file is not a database$"
    with pytest.raises(StoreError, match=message):
        Store(path, new=new)
    path.unlink()
    made(path, "CREATE TABLE birds (name TEXT)")
    with pytest.raises(StoreError, match=r"a\.sqlite: must be a campaign's results store$"):
        Store(path, new=new)
    path.unlink()
    with Store(path, new=True):
        pass
    made(path, "PRAGMA user_version = 2")
    with pytest.raises(StoreError, match=r"a\.sqlite: version must be 1, not 2$"):
        Store(path, new=new)


def test_a_full_disk_is_told(tmp_path):
    with Store(tmp_path / "a.sqlite", new=True) as store:
        store.add(job(1), Outcome(outcome=DONE))
        store._base.execute("PRAGMA max_page_count = 4")
        large = Outcome(outcome=DONE, message="x" * 10_000)
        with pytest.raises(OutputError, match=r"a\.sqlite: cannot be written: database or disk is full$"):
            store.add(job(2), large)
        kept = [result.job.parameters["number"] for result in store.results()]
        assert kept == [1]


def test_whoever_is_killed_leaves_whole_rows(tmp_path):
    """A process that writes as fast as it can is killed, again and again; what it said it had written is there."""
    path = tmp_path / "a.sqlite"
    script = textwrap.dedent(
        f"""
        import itertools
        from pathlib import Path
        from sim.campaigns.jobs import DONE, Job, Outcome
        from sim.campaigns.store import Store
        with Store(Path({str(path)!r}), new=True) as store:
            for number in itertools.count(len(list(store.results()))):
                job = Job(kind="tiny", version="1", parameters={{"seed": 1, "number": number}})
                store.add(job, Outcome(outcome=DONE, found={{"text": ["x" * 5000]}}))
                print(number, flush=True)
        """
    )
    said = -1
    for after in (1, 7, 20):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        for _ in range(after):
            said = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        # What it wrote before it was dead.
        said = max([said, *map(int, process.stdout.read().split())])
        process.wait()
        process.stdout.close()
        with Store(path, new=True) as store:
            rows = list(store.results())
        numbers = sorted(result.job.parameters["number"] for result in rows)
        assert numbers == list(range(len(rows))) and len(rows) in (said + 1, said + 2)
        assert all(result.outcome.found == {"text": ["x" * 5000]} for result in rows)


@pytest.mark.parametrize("damage", ["version = '2'", "parameters = '{'", "parameters = '[1]'", "found = 'x'", "kind = x'ff'"])
def test_a_damaged_row_is_no_result(damage, tmp_path):
    path = tmp_path / "a.sqlite"
    with Store(path, new=True) as store:
        store.add(job(1), Outcome(outcome=DONE))
    made(path, f"UPDATE result SET {damage}")
    message = rf"a\.sqlite: job '{job(1).key[:16]}' must be as it was written: the file is damaged$"
    with Store(path) as store, pytest.raises(StoreError, match=message):
        list(store.results())
    with Store(path) as store, pytest.raises(StoreError, match=message):
        store.starting_with("")
