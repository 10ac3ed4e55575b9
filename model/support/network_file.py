"""The file form of a network: an npz archive of ``network.json`` (as text) and the arrays of its layers.

What a network and its layers may be, `model.network` says: here they are told apart by their fields, whatever these are.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.support.errors import NetworkError
from model.support.files import checked_json
from model.support.names import shortened
from model.support.npz import ArchiveError, read_npz

if TYPE_CHECKING:
    from model.network import Layer, Network
    from model.projection import Projection

__all__ = ["FORMAT_VERSION", "check", "read_network", "to_bytes", "version_of"]

FORMAT_VERSION = 3
"""Newest version of the file form. A network is written as the lowest version that can say what it is."""

_MOST_BYTES = 1 << 27
"""What the arrays of a network file may hold."""

_MOST_HEADER = 1 << 22
"""Bytes of a network file's header."""

_ADDED: dict[int, dict[str, object]] = {
    2: {
        "input_levels": 1,
        "input_step": 1,
        "burst": 1,
        "averaged": (1, 1),
        "count_max": None,
        "halves_to_even": False,
        "firing": "immediate",
        "rest": False,
        "flush_events": 0,
    },
    3: {"joined": ()},
}
"""Fields of networks and layers that versions of the file form added, each with the value at which nothing is different."""

_KINDS_ADDED = {"transposed": 3}
"""Kinds of layers and of inputs that versions of the file form added."""

_WRITTEN_UNLESS = {"groups": 1, **{name: usual for fields in _ADDED.values() for name, usual in fields.items()}}
"""Fields that the file form leaves out at this value, so that networks without them keep their bytes."""


def check(condition: object, message: str) -> None:
    """Raise `NetworkError` unless the condition holds."""
    if not condition:
        raise NetworkError(message)


def version_of(network: "Network") -> int:
    """Version of the file form that can say what the network is: the lowest."""
    return max(_version_of(network), *map(_version_of, network.layers))


def _version_of(part: "Network | Layer") -> int:
    """The lowest version of the file form that can say this."""
    used = [
        version
        for version in _ADDED
        if any(getattr(part, name) != usual for name, usual in _added(type(part), version).items())
    ]
    by_position = [2] if np.ndim(getattr(part, "bias", 0)) > 1 else []
    return max([1, *used, *by_position, _KINDS_ADDED.get(getattr(part, "KIND", ""), 1)])


def _added(part: "type[Network | Layer]", version: int) -> dict[str, object]:
    """What a version of the file form added to a network, or to a layer of a kind, with the usual values."""
    own = {item.name for item in fields(part)}
    return {name: usual for name, usual in _ADDED[version].items() if name in own}


def to_bytes(network: "Network") -> bytes:
    """The file form: an npz archive of ``network.json`` (as text) and the arrays; the same on every run."""
    arrays: dict[str, np.ndarray] = {}
    layers: list[dict[str, Any]] = []
    for layer in network.layers:
        entry = _entry(layer, layer.name, arrays)
        if layer.inputs[1:]:
            entry["joined"] = [_entry(each, f"{layer.name}.{number}", arrays) for number, each in enumerate(layer.inputs[1:], 1)]
        layers.append(entry)
    header = {
        "format": "tally-network",
        "version": version_of(network),
        "name": network.name,
        "input_shape": list(network.input_shape),
        "input_threshold": network.input_threshold,
        "origin": network.origin,
        "layers": layers,
    }
    for version in _ADDED:
        for name, usual in _added(type(network), version).items():
            if getattr(network, name) != usual:
                header[name] = getattr(network, name)
    arrays["header"] = np.frombuffer(json.dumps(header, sort_keys=True).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _entry(part: "Layer | Projection", name: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """What the header says of a layer or a further input; its arrays are put into ``arrays``."""
    entry: dict[str, Any] = {"kind": part.KIND}
    for item in fields(part):
        value = getattr(part, item.name)
        if isinstance(value, np.ndarray):
            arrays[f"{name}.{item.name}"] = value.astype(np.int16 if item.name == "weights" else np.int32)
        elif item.name != "joined" and (item.name not in _WRITTEN_UNLESS or value != _WRITTEN_UNLESS[item.name]):
            entry[item.name] = list(value) if isinstance(value, tuple) else value
    return entry


def read_network(
    path: Path | str,
    *,
    kinds: Mapping[str, type["Layer"]],
    projections: Mapping[str, type["Projection"]],
    most_layers: int,
    make: type["Network"],
) -> "Network":
    """Read a file.

    Parameters
    ----------
    path : Path or str
        The file.
    kinds, projections : mapping
        The kinds of layers, and of further inputs, by name.
    most_layers : int
        How many layers there may be.
    make : type
        Makes a network of its fields.

    Raises
    ------
    NetworkError
        With one line that names the file, and the field where there is one.
    """
    path = Path(path)
    try:
        arrays = read_npz(path, most_bytes=_MOST_BYTES)
    except OSError as error:
        raise NetworkError(f"{path}: cannot be read: {error.strerror}") from None
    except ArchiveError as error:
        what = ", is an ONNX file, to be converted first" if path.suffix == ".onnx" else f": {error}"
        raise NetworkError(f"{path}: must be a Tally network file{shortened(what)}") from None
    try:
        version, values = _values(arrays, kinds, projections, most_layers, make)
        network = make(**values)
        wanted = version_of(network)
        check(version == wanted, f"version must be {wanted} for what it says, not {version}")
        return network
    except (NetworkError, TypeError, RecursionError) as error:
        raise NetworkError(f"{path}: {shortened(str(error))}") from None


def _values(
    arrays: dict[str, np.ndarray],
    kinds: Mapping[str, type["Layer"]],
    projections: Mapping[str, type["Projection"]],
    most_layers: int,
    make: type["Network"],
) -> tuple[int, dict[str, Any]]:
    """The version of an archive, and the fields of the network that it holds."""
    content = arrays.pop("header", None)
    check(
        content is not None and content.dtype == np.uint8 and content.ndim == 1,
        "must be a Tally network file: its header is missing",
    )
    assert content is not None
    check(content.size <= _MOST_HEADER, f"header must be at most {_MOST_HEADER} bytes, not {content.size}")
    try:
        header = checked_json(content.tobytes())
    except ValueError as error:
        raise NetworkError(f"header must be JSON: {error}") from None
    check(isinstance(header, dict) and header.get("format") == "tally-network", "must be a Tally network file")
    version = header.get("version")
    check(type(version) is int and 1 <= version <= FORMAT_VERSION, f"version must be within 1..{FORMAT_VERSION}, not {version!r}")
    expected = {"format", "version", "name", "input_shape", "input_threshold", "origin", "layers"}
    added = {name for number in _ADDED if number <= version for name in _added(make, number)}
    check(expected <= set(header) <= expected | added, f"fields must be {sorted(expected | added)}, not {sorted(header)}")
    entries = header["layers"]
    check(
        isinstance(entries, list) and 0 < len(entries) <= most_layers and all(isinstance(entry, dict) for entry in entries),
        f"layers must be a list of 1 to {most_layers} objects, not {entries!r}",
    )
    layers = tuple(_layer_from(entry, arrays, kinds, projections, version) for entry in entries)
    check(not arrays, f"arrays must belong to a layer, not {sorted(arrays)}")
    return version, {
        "name": header["name"],
        "input_shape": header["input_shape"],
        "layers": layers,
        "input_threshold": header["input_threshold"],
        "origin": header["origin"],
        **{name: header[name] for name in added & set(header)},
    }


def _layer_from(
    entry: dict[str, Any],
    arrays: dict[str, np.ndarray],
    kinds: Mapping[str, type["Layer"]],
    projections: Mapping[str, type["Projection"]],
    version: int,
) -> "Layer":
    """A layer of the file form of a version; its arrays are taken out of ``arrays``."""
    name, joined = entry.get("name"), entry.get("joined", [])
    label = f"layer {name!r}"
    whole = isinstance(joined, list) and all(isinstance(each, dict) for each in joined)
    check(whole, f"{label}: joined must be a list of objects, not {joined!r}")
    values = _part_from(entry, f"{name}", label, arrays, kinds, version)
    inputs = []
    for number, each in enumerate(joined, 1):
        own = _part_from(each, f"{name}.{number}", f"{label}, input {number}", arrays, projections, version)
        try:
            inputs.append(projections[each["kind"]](**own))
        except (NetworkError, TypeError) as error:
            raise NetworkError(f"{label}, {error}") from None
    return kinds[entry["kind"]](**{**values, **({"joined": tuple(inputs)} if inputs else {})})


def _part_from(
    entry: dict[str, Any], name: str, label: str, arrays: dict[str, np.ndarray], kinds: Mapping[str, type], version: int
) -> dict[str, Any]:
    """The fields of a layer or of a further input; its arrays are taken out of ``arrays``."""
    kind = entry.get("kind")
    kinds = {each: made for each, made in kinds.items() if _KINDS_ADDED.get(each, 1) <= version}
    part = kinds.get(kind) if isinstance(kind, str) else None
    if part is None:
        raise NetworkError(f"{label}: kind must be one of {sorted(kinds)}, not {kind!r}")
    values = {key: value for key, value in entry.items() if key != "kind"}
    known = {item.name for item in fields(part)} - {field for number in _ADDED if number > version for field in _ADDED[number]}
    own_arrays = {"weights", "bias"} & known
    missing = known - own_arrays - set(values) - set(_WRITTEN_UNLESS)
    check(
        set(values) <= known - own_arrays and not missing,
        f"{label}: fields must be {sorted(known - own_arrays)}, not {sorted(values)}",
    )
    values.pop("joined", None)
    for array in sorted(own_arrays):
        check(f"{name}.{array}" in arrays, f"{label}: array {array!r} is missing")
        values[array] = arrays.pop(f"{name}.{array}")
    return values
