"""Results as JSON: objects with the names of their fields, which stay what they are from version to version."""

import json
from dataclasses import fields, is_dataclass
from typing import Any

__all__ = ["BESIDE", "plain", "to_json"]

BESIDE = {"beside": True}
"""Metadata of a field whose own fields stand beside the others."""


def plain(result: Any) -> Any:
    """What ``result`` says, in dicts, lists, strings and numbers.

    A dataclass becomes a dict of its fields; one that is None, and None by default, was not measured, and is left out. A field
    with the metadata `BESIDE` is a dataclass whose own fields stand beside the others.
    """
    if is_dataclass(result):
        found: dict[str, Any] = {}
        for item in fields(result):
            value = getattr(result, item.name)
            if value is None and item.default is None:
                continue
            found |= plain(value) if item.metadata == BESIDE else {item.name: plain(value)}
        return found
    if isinstance(result, dict):
        return {name: plain(value) for name, value in result.items()}
    if isinstance(result, (list, tuple)):
        return [plain(value) for value in result]
    return result


def to_json(result: Any) -> str:
    """The text of a result's file."""
    return json.dumps(plain(result), indent=2, allow_nan=False) + "\n"
