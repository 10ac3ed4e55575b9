"""A test set on a device, every answer beside the golden model's. An evaluation that was cut off resumes."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from boards.device import Answer, Device
from boards.frames import Frames
from boards.self_test import golden_answers
from model.engine.engine import run_frames
from model.network import Network
from model.support.datasets import DataError
from model.support.files import naming, write_file

__all__ = ["Evaluation", "Journal", "Mismatch", "evaluate"]


@dataclass(frozen=True)
class Mismatch:
    """A frame whose answer is not the golden model's.

    Parameters
    ----------
    frame : int
        Its number in the data set.
    expected, found : tuple
        Class and counts of the golden model, and of the device.
    """

    frame: int
    expected: tuple[int, tuple[int, ...]]
    found: tuple[int, tuple[int, ...]]

    def __str__(self) -> str:
        (wanted, wanted_counts), (found, counts) = self.expected, self.found
        return f"class and counts must be {wanted} and {list(wanted_counts)}, not {found} and {list(counts)}"


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Parameters
    ----------
    answers : list of Answer
        Of each frame.
    mismatches : list of Mismatch
        Frames whose counts or class differ.
    accuracy : float
        Of the device's answers.
    """

    answers: list[Answer]
    mismatches: list[Mismatch]
    accuracy: float

    @property
    def latency_cycles_mean(self) -> float:
        """Cycles from a frame's first event to its answer."""
        return round(float(np.mean([answer.cycles for answer in self.answers])), 1)


class Journal:
    """Answers that are there, a line each in a file, so that an evaluation can be cut off.

    Parameters
    ----------
    path : Path
        The file; it is begun anew where it is of another network or of other frames.
    network : Network
        What is evaluated.
    frames : Frames
        All of the data set.

    Raises
    ------
    DataError
        If the file is not such a journal.
    """

    def __init__(self, path: Path, network: Network, frames: Frames) -> None:
        self._path = path
        images = np.ascontiguousarray(frames.images)
        self._head = {
            "network_hash": network.content_hash,
            "dataset": frames.name,
            "frames_hash": hashlib.sha256(images.tobytes()).hexdigest(),
        }
        self._classes = network.outputs
        self.answers = self._read()

    def write(self, frame: int, answer: Answer) -> None:
        """Write an answer down at once."""
        self.answers[frame] = answer
        with naming(self._path), self._path.open("a") as file:
            file.write(json.dumps({"frame": frame, **asdict(answer)}) + "\n")

    def forget(self) -> None:
        """Forget all answers: the next evaluation begins anew."""
        self.answers.clear()
        with naming(self._path):
            self._path.unlink(missing_ok=True)

    def _read(self) -> dict[int, Answer]:
        text = self._path.read_text(errors="replace") if self._path.exists() else ""
        head, *lines = text.splitlines(keepends=True) or [""]
        if not head or self._parsed(1, head) != self._head:
            write_file(self._path, json.dumps(self._head) + "\n")
            return {}
        if lines and not lines[-1].endswith("\n"):
            # The last line of a run that was cut off.
            del lines[-1]
            write_file(self._path, "".join([head, *lines]))
        return dict(self._answer(number, self._parsed(number, line)) for number, line in enumerate(lines, start=2))

    def _parsed(self, number: int, line: str) -> Any:
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            raise self._wrong(number) from None

    def _answer(self, number: int, line: Any) -> tuple[int, Answer]:
        try:
            frame, answer, counts, cycles = (line[name] for name in ("frame", "answer", "counts", "cycles"))
            clipped = line.get("clipped", False)
            whole = [frame, answer, cycles, clipped, *counts]
        except (TypeError, KeyError):
            raise self._wrong(number) from None
        if not all(isinstance(value, int) for value in whole) or len(counts) != self._classes:
            raise self._wrong(number)
        return frame, Answer(answer, tuple(counts), cycles, bool(clipped))

    def _wrong(self, number: int) -> DataError:
        return DataError(f"{self._path}, line {number}: must be of an evaluation's journal; --restart begins a new one")


def evaluate(
    device: Device,
    network: Network,
    frames: Frames,
    journal: Journal,
    *,
    count: int | None = None,
    done: Callable[[int], None] = lambda frames: None,
) -> Evaluation:
    """Evaluate frames on a device; those in ``journal`` are there already.

    Parameters
    ----------
    device : Device
        The device; its weights are there where it has to be loaded.
    network : Network
        What is on it.
    frames : Frames
        Frames with labels.
    journal : Journal
        Of these frames.
    count : int, optional
        Only the first so many.
    done : callable
        Called with the number of frames that have an answer.

    Raises
    ------
    DeviceError
        If the device does not answer, or an answer cannot be one.
    """
    images = frames.images[:count]
    expected = run_frames(network, images).counts
    for index, image in enumerate(images):
        if index not in journal.answers:
            journal.write(index, device.classify_bits(network, image) if device.identity.bits else device.classify(image))
        done(index + 1)
    answers = [journal.answers[index] for index in range(len(images))]
    mismatches = [
        Mismatch(n, wanted, (found.answer, found.counts))
        for n, (found, wanted) in enumerate(zip(answers, golden_answers(expected), strict=True))
        if (found.answer, found.counts) != wanted
    ]
    assert frames.labels is not None
    right = np.array([answer.answer for answer in answers]) == frames.labels[:count]
    return Evaluation(answers, mismatches, float(np.mean(right)))
