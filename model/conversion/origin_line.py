"""What a network file says of its origin, in a line: the float network's file, and what the network takes in place of pixels."""

import re

from model.importers.normalization import AS_THEY_ARE, Normalization
from model.support.names import printable

__all__ = ["normalization_in", "origin_line", "tuned_line"]

_NUMBERS = r"-?\d[-+.e\d]*(?: -?\d[-+.e\d]*)*"

_CONVERTED = re.compile(
    r".+?" + "".join(rf"(?:, {name} (?P<{name}>{_NUMBERS}))?" for name in ("scale", "mean", "std"))
    + r", (?:all thresholds |thresholds chosen[, ]|quantized file,).+"
)
"""A line of `origin_line`: the numbers stand before the first choice."""

_TUNED = re.compile(r".+, fine-tuned for \d+ epochs on [\d,]+ frames of .+")
"""A line of `tuned_line`."""


def origin_line(file: str, normalization: Normalization, choices: str, *, frames: int, data: str) -> str:
    """The line of a network that was converted from a file.

    Parameters
    ----------
    file : str
        Name of the float network's file.
    normalization : Normalization
        What the file does not say of its input.
    choices : str
        How it was converted; starts with where the thresholds come from.
    frames, data : int, str
        Frames of calibration, and the name of the data.
    """
    label = ", ".join(filter(None, (str(normalization), choices)))
    return printable(f"{file}, {label} on {frames} frames of {data}")


def tuned_line(file: str, *, epochs: int, frames: int, data: str) -> str:
    """The line of a network that was fine-tuned; the float network beside it takes pixels as they are."""
    return printable(f"{file}, fine-tuned for {epochs} epochs on {frames:,} frames of {data}")


def normalization_in(origin: str) -> Normalization | None:
    """The normalization that such a line is of; None where it is another line, which does not say it."""
    if _TUNED.fullmatch(origin):
        return AS_THEY_ARE
    found = _CONVERTED.fullmatch(origin)
    if found is None:
        return None
    texts = found.groupdict()
    try:
        mean, std = (
            tuple(map(float, texts[name].split())) if texts[name] else usual
            for name, usual in (("mean", AS_THEY_ARE.mean), ("std", AS_THEY_ARE.std))
        )
        return Normalization(mean=mean, std=std, scale=float(texts["scale"]) if texts["scale"] else None)
    except ValueError:
        # No numbers, or none that can be; files may say anything.
        return None
