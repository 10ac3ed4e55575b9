"""What may be fuzzed: ways in, each with small right inputs, what may be wrong with one, and how it is read and checked."""

import importlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.support.errors import BadInputError
from sim.fuzzing.mutations import noisy

__all__ = ["TARGETS", "RefusedError", "Target", "WrongError", "drawn", "target_named"]

TARGETS = {
    "network": ("sim.fuzzing.networks", "Network files."),
    "plan": ("sim.fuzzing.plans", "Plan files."),
    "data": ("sim.fuzzing.datasets", "Files of frames: archives of arrays, IDX files, images."),
    "onnx": ("sim.fuzzing.onnx_files", "ONNX files."),
    "host": ("boards.fuzzing.host", "What a board sends to its host."),
    "device": ("sim.fuzzing.device", "What a host sends to a board: its RTL."),
    "http": ("boards.fuzzing.http", "Requests to the demo."),
}
"""Of each way in the module that has it as ``TARGET``, loaded only where it is asked for, and what it is."""


class WrongError(AssertionError):
    """An input is accepted, and what comes of it is wrong."""


class RefusedError(BadInputError):
    """An input is refused by something that raises nothing, such as a reply with a status.

    Parameters
    ----------
    message : str
        The line that it says.
    kind : str
        What refuses it, in a few words.
    """

    def __init__(self, message: str, *, kind: str = "refused") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, kw_only=True)
class Target:
    """A way in.

    Parameters
    ----------
    name : str
        Its name.
    ending : str
        What names of files with its inputs end in.
    seeds : Callable[[], Sequence[bytes]]
        Right inputs, small, the same each time; kept, as they are asked for again.
    mutated : Callable[[bytes, random.Random], bytes]
        An input that is changed, by what it means or by its bytes.
    read : Callable[[bytes, Path], str]
        Reads an input as a command does; a folder is there for its file. Where it is accepted, what comes of it is checked, and
        it is said in a few words how far. Raises a `model.support.errors.TallyError` where it is refused, and `WrongError` where
        what comes of it is wrong.
    seconds : float
        Time of the processor that an input may take.
    """

    name: str
    ending: str
    seeds: Callable[[], Sequence[bytes]]
    mutated: Callable[[bytes, random.Random], bytes]
    read: Callable[[bytes, Path], str]
    seconds: float = 5.0


def target_named(name: str) -> Target:
    """One of `TARGETS`."""
    found: Target = importlib.import_module(TARGETS[name][0]).TARGET
    return found


_UNCHANGED = 0.01
"""Chance that a right input stays as it is: it must be accepted."""


def drawn(target: Target, seed: int, number: int) -> tuple[bytes, bool]:
    """One of the inputs of a seed, the same each time; and whether it is a right one, unchanged."""
    chance = random.Random(f"{target.name} {seed} {number}")
    content = chance.choice(target.seeds())
    if chance.random() < _UNCHANGED:
        return content, True
    for _ in range(chance.choice((1, 1, 1, 2))):
        try:
            content = target.mutated(content, chance)
        except (TypeError, ValueError, OverflowError, RecursionError):
            # What is wrong already may not be one that can be changed by what it means.
            content = noisy(content, chance)
    return content, False
