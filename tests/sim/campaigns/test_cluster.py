"""Workers: how many there is room for, what they offer, and whose jobs they do."""

import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys

import pytest

from model.support.errors import BadInputError, ToolError, ToolMissingError
from sim.campaigns import cluster as clusters
from sim.campaigns.cluster import at_once, check_address, cluster, do_job, local_workers, needs, room, worker_command
from sim.campaigns.jobs import Job, Kind
from tests.sim.campaigns.tiny import LARGER, TINY, run, version
from tests.sim.campaigns.watching import dask, end, started, stored, until

pytest.importorskip("distributed", reason="Dask distributed is not installed; get it with: pip install -e .[cluster]")

GB = 10**9
HEAVY = Kind(name="heavy", version=version, run=run, memory_bytes=3 * GB, threads=2)


@pytest.mark.parametrize(
    ("memory_bytes", "threads", "has", "cores", "expected"),
    [(3 * GB, 2, 8 * GB, 64, 2), (3 * GB, 2, 64 * GB, 8, 4), (3 * GB, 4, 64 * GB, 2, 1), (GB, 0, 8 * GB, 2, 8), (0, 0, GB, 2, 2)],
)
def test_no_more_at_once_than_there_is_room_for(memory_bytes, threads, has, cores, expected):
    assert at_once(Kind(name="k", version=version, run=run, memory_bytes=memory_bytes, threads=threads), has, cores) == expected


def test_a_job_that_no_machine_has_room_for():
    message = r"^a job of 'heavy' takes up to 3\.0 GB of memory, and this machine has 2\.0 GB$"
    with pytest.raises(BadInputError, match=message):
        at_once(HEAVY, 2 * GB, 4)


def test_workers_of_this_machine(monkeypatch):
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 8 * GB)
    monkeypatch.setattr("dask.system.CPU_COUNT", 6)
    assert local_workers(HEAVY, None) == (2, None)
    assert local_workers(HEAVY, 1) == (1, None)
    assert local_workers(HEAVY, 8) == (2, "2 of 8 workers: a job of 'heavy' takes up to 3.0 GB of 8.0 GB and 2 of 6 cores")
    assert local_workers(TINY, None) == (6, None)
    assert local_workers(TINY, 5) == (5, None)


def test_workers_of_a_cluster():
    """Those that offer less than a job takes, or say nothing, do none."""
    workers = {
        "large": {"nthreads": 8, "resources": {"memory": 10 * GB, "threads": 64}},
        "narrow": {"nthreads": 1, "resources": {"memory": 64 * GB, "threads": 64}},
        "small": {"nthreads": 4, "resources": {"memory": 2 * GB, "threads": 8}},
        "silent": {"nthreads": 4, "resources": {}},
    }
    assert needs(HEAVY) == {"memory": 3e9, "threads": 2.0}
    assert room(HEAVY, workers) == 3 + 1
    assert room(TINY, workers) == 17
    assert room(TINY, {}) == 0
    assert worker_command(HEAVY, "tcp://a:1") == (
        'python -m dask worker tcp://a:1 --nthreads 1 --resources "memory=3e+09 threads=2"'
    )


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "tls://cluster.example:1", "tcp://[::1]:65535"])
def test_addresses(address):
    check_address(address)


@pytest.mark.parametrize(
    "address", ["", "localhost:8786", "http://a:1", "tcp://a", "tcp://a:0", "tcp://a:65536", "tcp://:1", "tcp://a b:1"]
)
def test_what_is_no_address(address):
    with pytest.raises(BadInputError) as error:
        check_address(address)
    assert str(error.value) == f"--scheduler must be an address such as tcp://host:8786 (tcp, tls, ws, wss), not {address!r}"


def test_a_worker_of_another_version_does_nothing(tmp_path):
    job = Job(kind="tiny", version="2", parameters={"number": 1, "folder": str(tmp_path)})
    assert do_job(TINY, job) == "a worker has version 1 of 'tiny', and the campaign 2: they must be the same"
    assert list(tmp_path.iterdir()) == []


def test_nobody_answers(tmp_path):
    options = {"workers": 0, "scheduler": "tcp://127.0.0.1:1", "folder": tmp_path, "patience_seconds": 5}
    message = r"^--scheduler tcp://127\.0\.0\.1:1: no scheduler answers there within 5 s: Connection refused$"
    with pytest.raises(ToolError, match=message), cluster(TINY, **options):
        pass


def test_one_that_answers_is_silent(tmp_path, monkeypatch):
    """What listens there is no scheduler: it takes calls and says nothing."""
    monkeypatch.setattr(clusters, "_INTRODUCTION_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        options = {"workers": 0, "scheduler": address, "folder": tmp_path, "patience_seconds": 0.2}
        message = rf"^--scheduler {address}: no scheduler answers there within 0\.2 s$"
        with pytest.raises(ToolError, match=message), cluster(TINY, **options):
            pass


@pytest.mark.parametrize(
    ("scheduler", "configured", "message"),
    [
        (
            "tls://127.0.0.1:1",
            {},
            "--scheduler tls://127.0.0.1:1 must have files for TLS, in DASK_DISTRIBUTED__COMM__TLS__CA_FILE, "
            "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT, DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY or in Dask's configuration",
        ),
        (
            "tcp://127.0.0.1:1",
            {"distributed.comm.require-encryption": True},
            "--scheduler must be tls:// or wss://, which Dask's configuration requires, not 'tcp://127.0.0.1:1'",
        ),
        (
            "tls://127.0.0.1:1",
            {f"distributed.comm.tls.{name}": "/nowhere.pem" for name in ("ca-file", "client.cert", "client.key")},
            "Dask's files for TLS (distributed.comm.tls) cannot be read: No such file or directory",
        ),
    ],
)
def test_encryption_that_is_not_configured(scheduler, configured, message, tmp_path):
    import dask

    options = {"workers": 0, "scheduler": scheduler, "folder": tmp_path, "patience_seconds": 0.2}
    with dask.config.set(configured), pytest.raises(BadInputError) as error, cluster(TINY, **options):
        pass
    assert str(error.value) == message


def certificates(folder, name, authority=None):
    """A key, and a certificate for it: of an authority, or one of its own."""
    openssl = shutil.which("openssl")
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    words = ["-subj", f"/CN={name}", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", key]
    signed = [] if authority is None else ["-CA", authority[0], "-CAkey", authority[1]]
    subprocess.run([openssl, "req", "-x509", *words, *signed, "-out", certificate], check=True, capture_output=True)
    return certificate, key


@pytest.mark.full
def test_a_cluster_with_tls(tmp_path, monkeypatch):
    """By Dask's configuration alone. Who has no certificate of the same authority is not let in."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed; get it with: apt-get install openssl")
    authority, stranger = certificates(tmp_path, "authority"), certificates(tmp_path, "stranger")
    certificate, key = certificates(tmp_path, "tally", authority)
    files = {"CA_FILE": authority[0]}
    files |= {f"{who}__CERT": certificate for who in ("SCHEDULER", "WORKER", "CLIENT")}
    files |= {f"{who}__KEY": key for who in ("SCHEDULER", "WORKER", "CLIENT")}
    for name, path in files.items():
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{name}", str(path))
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION", "true")
    (tmp_path / "go").touch()
    served = tmp_path / "served.json"
    with contextlib.ExitStack() as stack:
        scheduler = dask(stack, "scheduler", "--host", "tls://127.0.0.1:0", "--scheduler-file", str(served), "--no-dashboard")
        until(lambda: served.exists() and served.read_text().endswith("}"), scheduler)
        address = json.loads(served.read_text())["address"]
        assert address.startswith("tls://")
        dask(stack, *shlex.split(worker_command(LARGER, address))[3:], "--no-dashboard", "--local-directory", str(tmp_path))
        assert end(started(tmp_path / "a.sqlite", tmp_path, 10, address))[0] == "10 0\n"
        assert stored(tmp_path / "a.sqlite") == 10
        # One of another authority, and one that trusts another authority.
        for trusted, own in ((authority, stranger), (stranger, (certificate, key))):
            other = {"CA_FILE": trusted[0], "CLIENT__CERT": own[0], "CLIENT__KEY": own[1]}
            environment = {**os.environ, **{f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(path) for name, path in other.items()}}
            refused = started(tmp_path / "b.sqlite", tmp_path, 10, address, env=environment)
            assert f"--scheduler {address}: no scheduler answers there within 60 s: " in refused.communicate()[1]
            assert refused.returncode != 0 and stored(tmp_path / "b.sqlite") == 0


def test_dask_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ToolMissingError, match=r"^campaigns must have Dask distributed installed: pip install -e \.\[cluster\]$"):
        clusters.dask_distributed()


def test_the_store_and_the_kinds_need_no_dask():
    script = "import sys, sim.campaign, sim.campaigns.engine, sim.campaigns.report; print('distributed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
