"""Parts of the machines: which one a cell belongs to, by the source that it comes from."""

import re
from collections.abc import Mapping
from pathlib import Path

import hw

__all__ = ["FLOOR", "PARTS", "part_of", "short_source"]

PARTS = ("lane", "state", "projection", "pool", "router", "readout", "encoder", "link", "folded", "machine")
"""In the order in which they are told; `machine` is what holds a pipeline's cores together."""

FLOOR = 95
"""Percent of the mutants of a part, those proved equivalent left out, that the checks have to kill."""

_ROOT = Path(hw.__path__[0]).parent

_OF_FILES: Mapping[str, str] = {
    "hw/neuron.py": "lane",
    "hw/pipeline/state": "state",
    "hw/pipeline/initial.py": "state",
    "hw/pipeline/projection.py": "projection",
    "hw/pipeline/weights.py": "projection",
    "hw/pipeline/step_group.py": "projection",
    "hw/pipeline/pool.py": "pool",
    "hw/pipeline/readout.py": "readout",
    "hw/pipeline/machine.py": "machine",
    # Groups, forks, merges, queues: all that takes events from one core to the next.
    "hw/pipeline/": "router",
    "hw/link/encoder": "encoder",
    "hw/link/frame_encoder.py": "encoder",
    "hw/link/levels_encoder.py": "encoder",
    "hw/link/scan_encoder.py": "encoder",
    "hw/link/": "link",
    "hw/parts/uart.py": "link",
    "hw/folded/": "folded",
}
"""By the beginning of a file's name; the first that fits."""

_LIBRARY = re.compile(r".*/(?:site|dist)-packages/")


def short_source(source: str) -> str:
    """A place as Amaranth writes it, ``file:line``, from the folder of the project or of its package on."""
    path, _, line = source.rpartition(":")
    if path.startswith(f"{_ROOT}/"):
        return f"{path[len(str(_ROOT)) + 1 :]}:{line}"
    return f"{_LIBRARY.sub('', path)}:{line}"


def part_of(sources: list[str]) -> str | None:
    """The part that the first of these places belongs to that any does; None where none does."""
    for source in sources:
        for beginning, part in _OF_FILES.items():
            if source.startswith(beginning):
                return part
    return None
