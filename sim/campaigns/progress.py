"""How a campaign goes: on a terminal a bar, elsewhere a line now and then; with rate and time left."""

import time
from collections.abc import Callable

from rich.console import Console

from model.support.cli import progress_bar

__all__ = ["Progress", "duration"]


def duration(seconds: float) -> str:
    """A time as people say it: the two largest units."""
    whole = round(seconds)
    for size, unit, small, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small} {smaller}"
    return f"{whole} s"


class Progress:
    """Tells how a campaign goes.

    Parameters
    ----------
    console : Console
        Where.
    name : str
        What is done.
    goal : int
        When it is enough.
    unit : str
        Of what.
    pause_seconds : float
        How long it is silent at most, where there is no terminal.
    clock : Callable[[], float]
        Says the time, in seconds.
    """

    def __init__(
        self,
        console: Console,
        *,
        name: str,
        goal: int,
        unit: str,
        pause_seconds: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._name, self._goal, self._unit = console, name, goal, unit
        self._pause, self._clock = pause_seconds, clock
        self._bar = progress_bar(console)
        self._task = self._bar.add_task(name, total=goal)
        self._began = self._told = clock()
        self._before = 0

    def start(self, amount: int, jobs: int) -> None:
        """Work begins; so much was done before."""
        self._began = self._told = self._clock()
        self._before = amount
        self._bar.start()
        if jobs:
            self.say(f"{self._name}: resumes after {jobs:,} jobs with {amount:,} of {self._goal:,} {self._unit}")

    def tick(self, amount: int, jobs: int, failed: int) -> None:
        """So much is done by now."""
        text = self._text(amount, jobs, failed)
        self._bar.update(self._task, completed=min(amount, self._goal), description=text)
        if self._bar.disable and self._clock() - self._told >= self._pause:
            self.say(text)

    def end(self, amount: int, jobs: int, failed: int) -> None:
        """Nothing more will be done."""
        self._bar.stop()
        self.say(self._text(amount, jobs, failed))

    def say(self, text: str) -> None:
        """One line."""
        self._told = self._clock()
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _text(self, amount: int, jobs: int, failed: int) -> str:
        """What is done, how fast, and how long it takes yet."""
        passed = self._clock() - self._began
        rate = (amount - self._before) / passed if passed > 0 else 0.0
        told = [f"{self._name}: {amount:,} of {self._goal:,} {self._unit}", f"{jobs:,} jobs", f"{failed:,} failed"]
        if rate > 0:
            told.append(f"{rate:,.0f} {self._unit} per second" if rate >= 10 else f"{rate * 60:,.1f} {self._unit} per minute")
            if amount < self._goal:
                told.append(f"{duration((self._goal - amount) / rate)} left")
        return ", ".join(told)
