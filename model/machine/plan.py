"""The plan: how much hardware a network gets. It decides time, area and energy, never a spike.

Parallelism is nested, so that the canonical order of spikes needs no sorting: lanes go to channels first;
once all channels of a position are updated at once, to columns; once a whole row of the window is, to rows.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from model.network import INPUT, Convolution, Layer, MaxPool, Network, Neurons, taps
from model.support.errors import BadInputError
from model.support.files import checked_json, write_file
from model.support.names import LAYER_NAME, SAFE_NAME, is_layer_name, is_safe_name, shortened

__all__ = [
    "ARCHITECTURES",
    "FOLDED",
    "FORMAT_VERSION",
    "NAMED_PLANS",
    "CorePlan",
    "Plan",
    "PlanError",
    "Stage",
    "choices",
    "count_bits",
    "load_plan",
    "named_plan",
    "refused_by_hardware",
    "stages",
    "steps_per_event",
]

FORMAT_VERSION = 1

_MOST_BYTES = 1 << 22
"""Of a plan's file."""

DEFAULT_LANES = 150
"""Lanes that the ``default`` plan may spend."""


ARCHITECTURES = ("pipeline", "folded")

STATE_MEMORIES = ("auto", "block", "distributed", "single_port")
WEIGHT_MEMORIES = ("auto", "block", "single_port")

MOST_GROUPED = 16
"""Channels that a spike group has at the most: finding one among more takes longer than all else that happens in a cycle."""

DISTRIBUTED_WORDS = 16
"""Words of a LUT RAM of the ECP5, the smallest of the devices: deeper ones cost a selection besides."""


INPUT_COUNT_BITS = 8
"""Width of the counts of the input's pixels, for a max-pool that reads them. A frame fires a pixel once at most; a list of
events may do so more often, but the counts of a window must not part by more than this holds."""


class PlanError(BadInputError):
    """A plan, or the file it was read from, is not what it must be."""


@dataclass(frozen=True, kw_only=True)
class CorePlan:
    """Parallelism and memories of the core of one neuron layer.

    Parameters
    ----------
    layer : name of the layer
    channels : output channels updated at once
    columns, rows : window columns and rows updated at once; more than one only as nesting allows
    group_fifo : depth of the FIFO of spike groups behind the lanes, in groups (one a cycle with a spike); not of a folded machine
    event_fifo : depth of the FIFO of events at the core's output, in events; not of a folded machine
    generation_bits : width of the tag by which state memory is reset lazily
    state_memory : what holds the states: ``"block"`` RAM, ``"distributed"`` RAM made of LUTs, or ``"auto"``: blocks where a
        bank is deeper than `DISTRIBUTED_WORDS`. ``"single_port"``, the large memory with one port of a folded machine
    weight_memory : what holds the weights: ``"auto"`` and ``"block"`` are block RAM (or logic, where they are few), which comes
        with the bitstream; ``"single_port"`` as for states: it is loaded at start
    """

    layer: str
    channels: int = 1
    columns: int = 1
    rows: int = 1
    group_fifo: int = 16
    event_fifo: int = 16
    generation_bits: int = 4
    state_memory: str = "auto"
    weight_memory: str = "auto"

    def __post_init__(self) -> None:
        if not is_layer_name(self.layer):
            raise PlanError(f"core's layer must be {LAYER_NAME}, not {self.layer!r}")
        for item in fields(self):
            if item.type in (int, "int"):
                value = getattr(self, item.name)
                if isinstance(value, bool) or not isinstance(value, int):
                    raise TypeError(f"core {self.layer!r}: {item.name} must be an integer, not {value!r}")
                low, high = {"group_fifo": (8, 1024), "event_fifo": (2, 65536), "generation_bits": (1, 16)}.get(
                    item.name, (1, 65536)
                )
                if not low <= value <= high:
                    raise PlanError(f"core {self.layer!r}: {item.name} must be within {low}..{high}, not {value}")
        for name, known in (("state_memory", STATE_MEMORIES), ("weight_memory", WEIGHT_MEMORIES)):
            if getattr(self, name) not in known:
                raise PlanError(f"core {self.layer!r}: {name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")

    @property
    def lanes(self) -> int:
        """Neurons updated at once."""
        return self.channels * self.columns * self.rows

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
    name : name of the plan
    cores : one `CorePlan` a neuron layer, in the order of the network
    architecture : ``"pipeline"``, a core a layer; ``"folded"``, one for all of them, by turns: see `model.machine.folded_layout`
    inject : whether the host can inject events into any core
    watch : whether the host can watch any core
    states : whether the host can read the membrane potential and count of any neuron
    """

    name: str
    cores: tuple[CorePlan, ...]
    architecture: str = "pipeline"
    inject: bool = True
    watch: bool = True
    states: bool = False

    def __post_init__(self) -> None:
        if not is_safe_name(self.name):
            raise PlanError(f"name must be {SAFE_NAME}, not {self.name!r}")
        object.__setattr__(self, "cores", tuple(self.cores))
        for name in ("inject", "watch", "states"):
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
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def check(self, network: Network) -> None:
        """Raise `PlanError` with one line where the plan does not suit ``network``."""
        wanted = [layer.name for layer in network.layers if isinstance(layer, Neurons)]
        found = [core.layer for core in self.cores]
        if wanted != found:
            raise PlanError(f"plan {self.name!r}: cores must be {', '.join(wanted)}, not {', '.join(found)}")
        for core in self.cores:
            channels, columns, rows = _limits(network, core.layer)
            where = f"plan {self.name!r}: core {core.layer!r}"
            for name, limit in (("channels", channels), ("columns", columns), ("rows", rows)):
                value = getattr(core, name)
                if value > limit:
                    raise PlanError(f"{where}: {name} must be within 1..{limit}, not {value}")
            if core.columns > 1 and core.channels != channels:
                raise PlanError(f"{where}: columns must be 1 unless channels is {channels}, not {core.columns}")
            if core.rows > 1 and core.columns != columns:
                raise PlanError(f"{where}: rows must be 1 unless columns is {columns}, not {core.rows}")
            if not self.folded and "single_port" in (core.state_memory, core.weight_memory):
                raise PlanError(f"{where}: memories must not be 'single_port' unless architecture is 'folded'")
        for layer in network.layers:
            if refusal := refused_by_hardware(layer):
                raise PlanError(f"layer {layer.name!r}: {'; '.join(refusal)}")
        if self.folded:
            # That module builds on this one.
            from model.machine.folded_layout import Folded

            Folded.of(network, self)

    def save(self, path: Path | str) -> None:
        """Write the file form: JSON."""
        data = {"format": "tally-plan", "version": FORMAT_VERSION, **asdict(self)}
        write_file(path, json.dumps(data, indent=2) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> "Plan":
        """Read the file form; `PlanError` names the file and the field."""
        try:
            with Path(path).open("rb") as file:
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


def refused_by_hardware(layer: Layer) -> tuple[str, str] | None:
    """Why there is no hardware for ``layer``, and what could be done; None where there is."""
    if isinstance(layer, MaxPool) and layer.overlapping:
        return (
            f"max-pooling with window {layer.window} and stride {layer.stride} overlaps",
            "hardware needs a stride of at least the window",
        )
    if isinstance(layer, Convolution) and layer.groups > 1:
        return (
            f"a convolution of {layer.groups} groups is not built as such",
            "convert with --for-hardware, which writes grouped convolutions as ordinary ones",
        )
    return None


@dataclass(frozen=True)
class Stage:
    """One core of the machine: the layers between two links.

    Parameters
    ----------
    layers : a neuron layer, a neuron layer with the max-pool that is fused to it, or a max-pool alone
    """

    layers: tuple[Layer, ...]

    @property
    def name(self) -> str:
        """Name of the link that leaves the stage: that of its last layer."""
        return self.layers[-1].name

    @property
    def source(self) -> str:
        """Name of the link that enters it."""
        return self.layers[0].source


def stages(network: Network) -> tuple[Stage, ...]:
    """The cores of ``network``: a max-pool is fused to the neuron layer that it alone reads."""
    found, fused = [], set()
    for layer in network.layers:
        if layer.name in fused:
            continue
        readers = network.readers(layer.name)
        if isinstance(layer, Neurons) and len(readers) == 1 and isinstance(readers[0], MaxPool):
            fused.add(readers[0].name)
            found.append(Stage((layer, readers[0])))
        else:
            found.append(Stage((layer,)))
    return tuple(found)


def count_bits(network: Network, name: str) -> int:
    """Width of the spike counts of layer ``name``; a max-pool's are its source's."""
    layer = network.layer(name)
    while isinstance(layer, MaxPool):
        if layer.source == INPUT:
            return INPUT_COUNT_BITS
        layer = network.layer(layer.source)
    if not isinstance(layer, Neurons):
        raise TypeError(f"layer must be of neurons or a max-pool, not {type(layer).__name__}")
    return layer.count_bits


def _check_fields(what: str, data: Any, cls: type) -> None:
    if not isinstance(data, dict):
        raise PlanError(f"{what} must be an object, not {data!r}")
    known = {item.name for item in fields(cls)}
    if unknown := set(data) - known:
        raise PlanError(f"{what} fields must be among {sorted(known)}, not {sorted(unknown)}")
    required = {"plan": {"name", "cores"}, "core": {"layer"}}[what]
    if missing := required - set(data):
        raise PlanError(f"{what} must have the fields {sorted(missing)}")


def _axes(network: Network, name: str) -> tuple[list[int], list[int]]:
    """How many output rows each input row reaches, and the same for columns."""
    layer = network.layer(name)
    if not isinstance(layer, Convolution):
        return [1], [1]
    source, output = network.shape_of(layer.source), network.shape_of(name)
    return tuple(  # type: ignore[return-value]
        [
            len(reached)
            for reached in taps(
                size=source[axis],
                outputs=output[axis],
                kernel=layer.kernel[axis],
                stride=layer.stride[axis],
                padding=layer.padding[axis],
            )
        ]
        for axis in (0, 1)
    )


def _limits(network: Network, name: str) -> tuple[int, int, int]:
    rows, columns = _axes(network, name)
    return network.shape_of(name).channels, max(1, *columns, 0), max(1, *rows, 0)


def steps_per_event(network: Network, core: CorePlan) -> float:
    """Mean cycles a core takes for an event, over all input positions, windows clipped at the border."""
    rows, columns = _axes(network, core.layer)
    blocks = math.ceil(network.shape_of(core.layer).channels / core.channels)
    row_steps = sum(math.ceil(n / core.rows) for n in rows) / len(rows)
    column_steps = sum(math.ceil(n / core.columns) for n in columns) / len(columns)
    return max(1.0, row_steps * column_steps * blocks)


def choices(network: Network, name: str) -> list[CorePlan]:
    """Every useful parallelism of the core of layer ``name``, from one lane to the whole window a cycle."""
    channels, columns, rows = _limits(network, name)
    blocks = sorted({math.ceil(channels / n) for n in range(1, channels + 1)})
    found = [CorePlan(layer=name, channels=math.ceil(channels / math.ceil(channels / n))) for n in blocks]
    found += [CorePlan(layer=name, channels=channels, columns=n) for n in range(2, columns + 1)]
    found += [CorePlan(layer=name, channels=channels, columns=columns, rows=n) for n in range(2, rows + 1)]
    unique = {core.lanes: core for core in reversed(found)}
    return [unique[lanes] for lanes in sorted(unique)]


def _balanced(network: Network, names: list[str], lanes: int) -> list[CorePlan]:
    """Give the slowest core more lanes, again and again, while ``lanes`` suffice."""
    options = {name: choices(network, name) for name in names}
    chosen = dict.fromkeys(names, 0)

    def cycles(name: str, index: int) -> float:
        return max(1.0, network.layer(name).mean_events) * steps_per_event(network, options[name][index])

    while True:
        slowest = max(names, key=lambda name: cycles(name, chosen[name]))
        faster = [
            index
            for index in range(chosen[slowest] + 1, len(options[slowest]))
            if cycles(slowest, index) < cycles(slowest, chosen[slowest])
        ]
        spent = sum(options[name][index].lanes for name, index in chosen.items() if name != slowest)
        if not faster or spent + options[slowest][faster[0]].lanes > lanes:
            return [options[name][chosen[name]] for name in names]
        chosen[slowest] = faster[0]


NAMED_PLANS = ("minimal", "default", "fast")
"""Plans of a pipeline that every network has."""

FOLDED = "folded"
"""The plan of a folded machine, which not every network has."""


def named_plan(network: Network, name: str) -> Plan:
    """A plan by name.

    ``minimal``: one lane a core, and states that the host can read. ``default``: 150 lanes, given to the slowest core one
    after the other, by the events a layer seen in calibration. ``fast``: every core takes an event a cycle. ``folded``: one core
    for all layers, as `model.machine.folded_layout.folded_plan` lays it out for an iCE40 UP5K; its states can be read.
    """
    if name == FOLDED:
        # That module builds on this one.
        from model.machine.folded_layout import folded_plan

        return folded_plan(network)
    names = [layer.name for layer in network.layers if isinstance(layer, Neurons)]
    if name == "minimal":
        cores = [CorePlan(layer=layer) for layer in names]
    elif name == "default":
        cores = _balanced(network, names, DEFAULT_LANES)
    elif name == "fast":
        cores = [choices(network, layer)[-1] for layer in names]
    else:
        raise PlanError(f"plan must be a file or one of {', '.join((*NAMED_PLANS, FOLDED))}, not {name!r}")
    plan = Plan(name=name, cores=tuple(cores), states=name == "minimal")
    plan.check(network)
    return plan


def load_plan(network: Network, text: str) -> Plan:
    """A plan by name, or from a ``.json`` file, checked against ``network``."""
    plan = Plan.load(text) if text.endswith(".json") else named_plan(network, text)
    plan.check(network)
    return plan
