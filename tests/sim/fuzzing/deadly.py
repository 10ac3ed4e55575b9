"""A way in whose reader ends its process at one input, and never comes back to Python at another."""

import os
import signal

from sim.fuzzing.targets import Target


def _mutated(content, chance):
    return b"%d" % chance.randrange(3)


def _read(content, folder):
    if content == b"1":
        os.kill(os.getpid(), signal.SIGSEGV)
    if content == b"2":
        # Takes no signal.
        sum(range(10**11))
    return "read"


TARGET = Target(name="deadly", ending=".bin", seeds=lambda: (b"right",), mutated=_mutated, read=_read, seconds=0.1)
