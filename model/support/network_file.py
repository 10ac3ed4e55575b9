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

__all__ = ["FORMAT_VERSION", "check", "read_network", "to_bytes", "version_of"]

FORMAT_VERSION = 2
"""Newest version of the file form. A network that uses nothing of version 2 is written as version 1."""

_MOST_BYTES = 1 << 27
"""What the arrays of a network file may hold."""

_MOST_HEADER = 1 << 22
"""Bytes of a network file's header."""

_ADDED_IN_2 = {
    "input_levels": 1,
    "input_step": 1,
    "burst": 1,
    "averaged": (1, 1),
    "count_max": None,
    "halves_to_even": False,
    "firing": "immediate",
    "rest": False,
    "flush_events": 0,
}
"""Fields of networks and layers that version 2 of the file form added, each with the value at which nothing is different."""

_WRITTEN_UNLESS = {"groups": 1, **_ADDED_IN_2}
"""Fields that the file form leaves out at this value, so that networks without them keep their bytes."""


def check(condition: object, message: str) -> None:
    """Raise `NetworkError` unless the condition holds."""
    if not condition:
        raise NetworkError(message)


def version_of(network: "Network") -> int:
    """Version of the file form that can say what the network is: the lowest."""
    return 2 if _is_of_2(network) or any(map(_is_of_2, network.layers)) else 1


def _is_of_2(part: "Network | Layer") -> bool:
    """Whether version 1 of the file form cannot say this."""
    by_position = np.ndim(getattr(part, "bias", 0)) > 1
    return by_position or any(getattr(part, name) != usual for name, usual in _added(type(part)))


def _added(part: "type[Network | Layer]") -> list[tuple[str, object]]:
    """What version 2 of the file form added to a network, or to a layer of a kind, with the usual values."""
    own = {item.name for item in fields(part)}
    return [(name, usual) for name, usual in _ADDED_IN_2.items() if name in own]


def to_bytes(network: "Network") -> bytes:
    """The file form: an npz archive of ``network.json`` (as text) and the arrays; the same on every run."""
    arrays: dict[str, np.ndarray] = {}
    layers: list[dict[str, Any]] = []
    for layer in network.layers:
        entry: dict[str, Any] = {"kind": layer.KIND}
        for item in fields(layer):
            value = getattr(layer, item.name)
            if isinstance(value, np.ndarray):
                arrays[f"{layer.name}.{item.name}"] = value.astype(np.int16 if item.name == "weights" else np.int32)
            elif item.name not in _WRITTEN_UNLESS or value != _WRITTEN_UNLESS[item.name]:
                entry[item.name] = list(value) if isinstance(value, tuple) else value
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
    header |= {name: getattr(network, name) for name, usual in _added(type(network)) if getattr(network, name) != usual}
    arrays["header"] = np.frombuffer(json.dumps(header, sort_keys=True).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def read_network(
    path: Path | str, *, kinds: Mapping[str, type["Layer"]], most_layers: int, make: type["Network"]
) -> "Network":
    """Read a file.

    Parameters
    ----------
    path : Path or str
        The file.
    kinds : mapping
        The kinds of layers, by name.
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
        version, values = _values(arrays, kinds, most_layers, make)
        network = make(**values)
        wanted = version_of(network)
        check(version == wanted, f"version must be {wanted} for what it says, not {version}")
        return network
    except (NetworkError, TypeError, RecursionError) as error:
        raise NetworkError(f"{path}: {shortened(str(error))}") from None


def _values(
    arrays: dict[str, np.ndarray], kinds: Mapping[str, type["Layer"]], most_layers: int, make: type["Network"]
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
    added = {name for name, _ in _added(make)} if version > 1 else set()
    check(expected <= set(header) <= expected | added, f"fields must be {sorted(expected | added)}, not {sorted(header)}")
    entries = header["layers"]
    check(
        isinstance(entries, list) and 0 < len(entries) <= most_layers and all(isinstance(entry, dict) for entry in entries),
        f"layers must be a list of 1 to {most_layers} objects, not {entries!r}",
    )
    layers = tuple(_layer_from(entry, arrays, kinds, version) for entry in entries)
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
    entry: dict[str, Any], arrays: dict[str, np.ndarray], kinds: Mapping[str, type["Layer"]], version: int
) -> "Layer":
    """A layer of the file form of a version; its arrays are taken out of ``arrays``."""
    name, kind = entry.get("name"), entry.get("kind")
    layer_class = kinds.get(kind) if isinstance(kind, str) else None
    if layer_class is None:
        raise NetworkError(f"layer {name!r}: kind must be one of {sorted(kinds)}, not {kind!r}")
    values = {key: value for key, value in entry.items() if key != "kind"}
    known = {item.name for item in fields(layer_class)}
    if version == 1:
        known -= set(_ADDED_IN_2)
    own_arrays = {"weights", "bias"} & known
    missing = known - own_arrays - set(values) - set(_WRITTEN_UNLESS)
    check(
        set(values) <= known - own_arrays and not missing,
        f"layer {name!r}: fields must be {sorted(known - own_arrays)}, not {sorted(values)}",
    )
    for array in sorted(own_arrays):
        check(f"{name}.{array}" in arrays, f"layer {name!r}: array {array!r} is missing")
        values[array] = arrays.pop(f"{name}.{array}")
    return layer_class(**values)
