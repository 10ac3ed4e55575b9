"""Hosts on a network of their own, as Linux makes them of network namespaces: their links can be cut."""

import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.sim.campaigns.watching import HANGS_SECONDS, ROOT

__all__ = ["Hosts", "hosts", "missing"]

_IP = shutil.which("ip", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))

_SWITCH = "switch"


def _ip(*words):
    return subprocess.run([_IP, *words], check=True, capture_output=True, text=True).stdout


def _kill(space):
    """Kill all that runs in a namespace."""
    deadline = time.monotonic() + HANGS_SECONDS
    while processes := _ip("netns", "pids", space).split():
        assert time.monotonic() < deadline, f"{space}: {processes} cannot be killed"
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        time.sleep(0.02)


def _remove(space):
    _kill(space)
    _ip("netns", "delete", space)


def _remove_forsaken():
    """Take away what tests left that were killed themselves."""
    for line in _ip("netns", "list").splitlines():
        found = re.match(r"tally(\d+)-\w+", line)
        if found and not Path(f"/proc/{found[1]}").exists():
            _remove(found[0])


def missing():
    """Why there are no such hosts on this machine; None where there are."""
    if _IP is None:
        return "ip is not installed; get it with: apt-get install iproute2"
    try:
        with hosts("one"):
            return None
    except subprocess.CalledProcessError as error:
        return f"network namespaces need Linux and root: {error.stderr.strip()}"


class Hosts:
    """Hosts on a switch, each of which has an address and a loopback, and knows nobody else.

    Parameters
    ----------
    names : Sequence[str]
        What they are called.
    """

    def __init__(self, names):
        self._names = list(names)

    def _space(self, name):
        return f"tally{os.getpid()}-{name}"

    def address(self, name):
        """The address of a host."""
        return f"192.168.77.{1 + self._names.index(name)}"

    def before(self, name):
        """The words that start a command at a host."""
        return (_IP, "netns", "exec", self._space(name))

    def start(self, name, *words, log, environment=None):
        """Start a command at a host; what it says goes to a file."""
        with log.open("ab") as file:
            options = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file, "env": environment}
            return subprocess.Popen([*self.before(name), *words], cwd=ROOT, **options)

    def host_of(self, process):
        """At which host a process is; None at none of them, or where it has ended."""
        with suppress(OSError):
            space = os.stat(f"/proc/{process}/ns/net").st_ino
            return next((name for name in self._names if os.stat(f"/run/netns/{self._space(name)}").st_ino == space), None)
        return None

    def cut(self, name):
        """Take a host off the network. It is not told, and neither are others."""
        _ip("-n", self._space(_SWITCH), "link", "set", "dev", name, "down")

    def mend(self, name):
        """Bring a host back."""
        _ip("-n", self._space(_SWITCH), "link", "set", "dev", name, "up")

    def kill(self, name):
        """Kill all that runs at a host."""
        _kill(self._space(name))

    def make(self):
        """Make them. The switch is in a namespace too: this machine's own network stays as it is."""
        _remove_forsaken()
        switch = self._space(_SWITCH)
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "name", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "dev", "bridge", "up")
        for name in self._names:
            space = self._space(name)
            _ip("netns", "add", space)
            _ip("-n", switch, "link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("-n", switch, "link", "set", "dev", name, "master", "bridge", "up")
            _ip("-n", space, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", space, "link", "set", "dev", device, "up")

    def remove(self):
        """Take away what there is of them, and whatever runs there."""
        for name in (*self._names, _SWITCH):
            if Path(f"/run/netns/{self._space(name)}").exists():
                _remove(self._space(name))


@contextmanager
def hosts(*names):
    """A context with hosts."""
    made = Hosts(names)
    try:
        made.make()
        yield made
    finally:
        made.remove()
