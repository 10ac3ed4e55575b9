"""Jobs that take no time, and do what they are told: wait for a file, kill their worker, or fail.

As a program, a campaign of them, to be killed: ``python -m tests.sim.campaigns.tiny STORE FOLDER NUMBERS [SCHEDULER]``,
which may be followed by how many seconds to wait for it.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from model.support.cli import make_console
from sim.campaigns.cluster import cluster
from sim.campaigns.engine import Campaign, run_campaign
from sim.campaigns.jobs import DifferenceError, Kind
from sim.campaigns.progress import Progress
from sim.campaigns.store import Store

KILLS, DIFFERS, FAILS, WAITS = 3, 5, 7, 8
"""Numbers of jobs: one kills its worker the first time, one finds a difference, one fails; from the last on they wait until the
file ``go`` is there, or one of their own, such as ``go-9``."""


def version() -> str:
    return "1"


def run(parameters, folder):
    shared, number = Path(parameters["folder"]), int(parameters["number"])
    # What was begun, and in which process.
    with (shared / "begun").open("a") as file:
        file.write(f"{number} {os.getpid()}\n")
    (folder / "input.txt").write_text(f"{number}\n")
    if number == KILLS and (shared / "kill").exists():
        (shared / "kill").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if number >= WAITS and (shared / "tool").exists():
        # As a simulator, which a worker that is killed does not end.
        tool = subprocess.Popen(["sleep", "900"])
        with (shared / "tools").open("a") as file:
            file.write(f"{tool.pid}\n")
    while number >= WAITS and not any((shared / name).exists() for name in ("go", f"go-{number}")):
        time.sleep(0.02)
    with (shared / "ended").open("a") as file:
        file.write(f"{number} {os.getpid()}\n")
    if number == FAILS and (shared / "fail").exists():
        raise RuntimeError(f"no {folder}/input.txt today")
    found = {"squares": number * number, "parity": {("even", "odd")[number % 2]: 1}, "tools": ["none"]}
    if number == DIFFERS and (shared / "fail").exists():
        raise DifferenceError("24 is not 25", found)
    return found


TINY = Kind(name="tiny", version=version, run=run, memory_bytes=0, threads=0)

LARGER = Kind(name="tiny", version=version, run=run, memory_bytes=50_000_000, threads=1)
"""The same jobs, for workers that say what they have to offer."""


def campaign(folder, numbers, kind=TINY):
    return Campaign(kind=kind, common={"folder": str(folder), "seed": 1}, goal=numbers, numbers=numbers)


def main(path, folder, numbers, scheduler=None, patience="60"):
    console = make_console(stderr=True)
    asked = campaign(folder, int(numbers), TINY if scheduler is None else LARGER)
    seconds = float(patience)
    with (
        Store(Path(path), new=True) as store,
        cluster(
            asked.kind, workers=2, scheduler=scheduler, folder=Path(path).with_suffix(".work"), patience_seconds=seconds
        ) as client,
    ):
        progress = Progress(console, name="tiny", goal=asked.goal, unit="jobs")
        tally = run_campaign(asked, store, client, progress, patience_seconds=seconds)
    print(tally.jobs, len(tally.failed))


if __name__ == "__main__":
    main(*sys.argv[1:])
