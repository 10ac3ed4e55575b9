"""The plan: how much hardware a network gets. It decides time, area and energy, never a spike.

Parallelism is nested, so that the canonical order of spikes needs no sorting: lanes go to channels first;
once all channels of a position that an event reaches are updated at once, to columns; once a whole row of the window is, to rows.
Of a convolution with groups those are the channels of one group, of a depthwise one a single channel.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from model.support.errors import BadInputError
from model.support.files import checked_json, opened, write_file
from model.support.names import LAYER_NAME, SAFE_NAME, is_layer_name, is_safe_name, shortened

__all__ = [
    "ARCHITECTURES",
    "DISTRIBUTED_EVENTS",
    "DISTRIBUTED_WORDS",
    "FORMAT_VERSION",
    "CorePlan",
    "Plan",
    "PlanError",
]

FORMAT_VERSION = 1

_MOST_BYTES = 1 << 22
"""Of a plan's file."""

ARCHITECTURES = ("pipeline", "folded")

STATE_MEMORIES = ("auto", "block", "distributed", "single_port")
TAG_MEMORIES = ("auto", "distributed")
WEIGHT_MEMORIES = ("auto", "block", "split", "mixed", "distributed", "single_port")

MOST_JOINED = 65536
"""The deepest FIFO in front of a further input of a merge."""

_BOUNDS = {
    "group_fifo": (8, 1024),
    "pool_fifo": (8, 1024),
    "event_fifo": (2, 65536),
    "join_fifo": (2, MOST_JOINED),
    "generation_bits": (1, 16),
}
"""What a core's numbers have to be within, where that is not 1..65536."""

_NONE = ("pool_fifo", "join_fifo")
"""Those that may be 0."""

_UNSAID = {"pool_fifo": 0, "join_fifo": 0, "tag_memory": "auto"}
"""What a core has of which a plan says nothing, as none could once."""

MOST_GROUPED = 16
"""Channels that a spike group has at the most: finding one among more takes longer than all else that happens in a cycle."""

DISTRIBUTED_WORDS = 16
"""Words of a LUT RAM of the ECP5, the smallest of the devices: deeper ones cost a selection besides."""

DISTRIBUTED_EVENTS = 256
"""Events up to which the FIFO at a core's output is made of LUT RAM; a deeper one is a queue in block RAM."""


class PlanError(BadInputError):
    """A plan, or the file it was read from, is not what it must be."""


@dataclass(frozen=True, kw_only=True)
class CorePlan:
    """Parallelism and memories of the core of one neuron layer.

    Parameters
    ----------
    layer : str
        Name of the layer.
    channels : int
        Output channels updated at once.
    columns, rows : int
        Window columns and rows updated at once; more than one only as nesting allows.
    group_fifo : int
        Depth of the FIFO of spike groups after the lanes, in groups (one per cycle with a spike); not of a folded machine.
    pool_fifo : int
        Depth of the FIFO of groups after a max-pool that follows; 0 is `group_fifo`, and what a core without a max-pool has.
        Deferred, the deeper it is, the sooner a max-pool that has flushed takes the next frame.
    event_fifo : int
        Depth of the FIFO of events at the core's output, in events; not of a folded machine. Deeper than `DISTRIBUTED_EVENTS` it
        takes block RAM. Where it holds what a layer sends at a flush, the layer takes the next frame meanwhile.
    join_fifo : int
        Depth of a FIFO, in block RAM, in front of each further input of a layer that has several; 0 is none.
        Where it holds what comes around a block, the layers inside of the block take the next frame meanwhile. Where neurons fire
        at once it may be needed (`model.machine.turns.joins`).
    generation_bits : int
        Width of the tag by which state memory is reset lazily.
    state_memory : str
        What holds the states: ``"block"`` RAM, ``"distributed"`` RAM made of LUTs, or ``"auto"``: blocks where a bank is
        deeper than `DISTRIBUTED_WORDS`. ``"single_port"``, the large memory with one port of a folded machine.
    tag_memory : str
        What holds the tags of the states: ``"auto"``, blocks where they are many, or ``"distributed"``, RAM made of LUTs however
        many there are; not of a folded machine.
    weight_memory : str
        What holds the weights: ``"auto"`` and ``"block"`` are block RAM (or logic, where they are few), which comes with the
        bitstream; ``"distributed"``, tables made of LUTs; ``"mixed"``, block RAM, but LUTs for what is left of a word's width
        beside slices as wide as a block; ``"split"``, block RAM divided by address where that takes fewer blocks: 3,456 words are
        2,048, 1,024 and 384, each in blocks of the width that suits it. ``"single_port"`` as for states: it is loaded at start.
    """

    layer: str
    channels: int = 1
    columns: int = 1
    rows: int = 1
    group_fifo: int = 16
    pool_fifo: int = 0
    event_fifo: int = 16
    join_fifo: int = 0
    generation_bits: int = 4
    state_memory: str = "auto"
    tag_memory: str = "auto"
    weight_memory: str = "auto"

    def __post_init__(self) -> None:
        if not is_layer_name(self.layer):
            raise PlanError(f"core's layer must be {LAYER_NAME}, not {self.layer!r}")
        for item in fields(self):
            if item.type in (int, "int"):
                value = getattr(self, item.name)
                if isinstance(value, bool) or not isinstance(value, int):
                    raise TypeError(f"core {self.layer!r}: {item.name} must be an integer, not {value!r}")
                if item.name in _NONE and value == 0:
                    continue
                low, high = _BOUNDS.get(item.name, (1, 65536))
                if not low <= value <= high:
                    zero = "0 or " if item.name in _NONE else ""
                    raise PlanError(f"core {self.layer!r}: {item.name} must be {zero}within {low}..{high}, not {value}")
        memories = (("state_memory", STATE_MEMORIES), ("tag_memory", TAG_MEMORIES), ("weight_memory", WEIGHT_MEMORIES))
        for name, known in memories:
            if getattr(self, name) not in known:
                raise PlanError(f"core {self.layer!r}: {name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")

    @property
    def lanes(self) -> int:
        """Neurons updated at once."""
        return self.channels * self.columns * self.rows

    @property
    def pool_depth(self) -> int:
        """Depth of the FIFO of groups after a max-pool."""
        return self.pool_fifo or self.group_fifo

    @property
    def chunks(self) -> int:
        """Spike groups that a block of channels leaves in."""
        return -(-self.channels // MOST_GROUPED)

    @property
    def group_channels(self) -> int:
        """Channels of a spike group."""
        return -(-self.channels // self.chunks)

    def firsts(self, channels: int) -> tuple[int, ...]:
        """The first channel of each spike group at a position that has ``channels`` in all."""
        chunks = range(0, self.chunks * self.group_channels, self.group_channels)
        found = (block + chunk for block in range(0, channels, self.channels) for chunk in chunks)
        return tuple(first for first in found if first < channels)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A plan for a whole network.

    Parameters
    ----------
    name : str
        Name of the plan.
    cores : tuple of CorePlan
        One `CorePlan` a neuron layer, in the order of the network.
    architecture : str
        ``"pipeline"``, a core per layer; ``"folded"``, one core that all layers share: see `model.machine.folded_layout`.
    inject : bool
        Whether the host can inject events into any core.
    watch : bool
        Whether the host can watch any core.
    states : bool
        Whether the host can read the membrane potential and count of any neuron.
    weight_check : bool
        Whether a pipeline reads its weights over and over in cycles in which no event needs them, and compares their signature
        with the network's. It changes no spike and no cycle.
    """

    name: str
    cores: tuple[CorePlan, ...]
    architecture: str = "pipeline"
    inject: bool = True
    watch: bool = True
    states: bool = False
    weight_check: bool = False

    def __post_init__(self) -> None:
        if not is_safe_name(self.name):
            raise PlanError(f"name must be {SAFE_NAME}, not {self.name!r}")
        object.__setattr__(self, "cores", tuple(self.cores))
        for name in ("inject", "watch", "states", "weight_check"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be true or false, not {getattr(self, name)!r}")
        if self.architecture not in ARCHITECTURES:
            raise PlanError(f"architecture must be one of {', '.join(ARCHITECTURES)}, not {self.architecture!r}")

    @property
    def folded(self) -> bool:
        """Whether one core takes turns between the layers."""
        return self.architecture == "folded"

    @property
    def lanes(self) -> int:
        """Lanes that are built: those of all cores; of a folded machine a power of two, enough for the widest."""
        widest = max(core.lanes for core in self.cores)
        return 1 << (widest - 1).bit_length() if self.folded else sum(core.lanes for core in self.cores)

    def core(self, layer: str) -> CorePlan:
        """The plan of the core of ``layer``."""
        for core in self.cores:
            if core.layer == layer:
                return core
        raise PlanError(f"core must be one of {', '.join(c.layer for c in self.cores)}, not {layer!r}")

    @property
    def content_hash(self) -> str:
        """SHA-256 of all but the name, in hexadecimal; equal for plans that are equal but for their names."""
        content = {name: value for name, value in asdict(self).items() if name != "name"}
        # A plan that says nothing of it is the plan that it was before it could.
        if not self.weight_check:
            del content["weight_check"]
        content["cores"] = [{k: v for k, v in core.items() if _UNSAID.get(k) != v} for core in content["cores"]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def save(self, path: Path | str) -> None:
        """Write the file form: JSON."""
        data = {"format": "tally-plan", "version": FORMAT_VERSION, **asdict(self)}
        if not self.weight_check:
            del data["weight_check"]
        for core in data["cores"]:
            if core["tag_memory"] == _UNSAID["tag_memory"]:
                del core["tag_memory"]
        write_file(path, json.dumps(data, indent=2) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> "Plan":
        """Read the file form; `PlanError` names the file and the field."""
        try:
            with opened(path) as file:
                text = file.read(_MOST_BYTES + 1)
            if len(text) > _MOST_BYTES:
                raise PlanError(f"{path}: must be a Tally plan file, of at most {_MOST_BYTES} bytes")
            data = checked_json(text)
        except PlanError:
            raise
        except OSError as error:
            raise PlanError(f"{path}: cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise PlanError(f"{path}: must be a Tally plan file: {error}") from None
        try:
            if not isinstance(data, dict) or data.pop("format", None) != "tally-plan":
                raise PlanError("must be a Tally plan file")
            version = data.pop("version", None)
            if version != FORMAT_VERSION or not isinstance(version, int) or isinstance(version, bool):
                raise PlanError(f"version must be {FORMAT_VERSION}, not {version!r}")
            _check_fields("plan", data, cls)
            if not isinstance(data["cores"], list):
                raise PlanError(f"cores must be a list, not {data['cores']!r}")
            for core in data["cores"]:
                _check_fields("core", core, CorePlan)
            return cls(**{**data, "cores": tuple(CorePlan(**core) for core in data["cores"])})
        except (PlanError, TypeError, RecursionError) as error:
            raise PlanError(f"{path}: {shortened(str(error))}") from None


def _check_fields(what: str, data: Any, cls: type) -> None:
    if not isinstance(data, dict):
        raise PlanError(f"{what} must be an object, not {data!r}")
    known = {item.name for item in fields(cls)}
    if unknown := set(data) - known:
        raise PlanError(f"{what} fields must be among {sorted(known)}, not {sorted(unknown)}")
    required = {"plan": {"name", "cores"}, "core": {"layer"}}[what]
    if missing := required - set(data):
        raise PlanError(f"{what} must have the fields {sorted(missing)}")
