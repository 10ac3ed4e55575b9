"""Results as JSON."""

import json
from dataclasses import dataclass, field

import pytest

from model.support.results import BESIDE, plain, to_json


@dataclass(frozen=True, kw_only=True)
class Part:
    part: int
    other: float | None


@dataclass(frozen=True, kw_only=True)
class Whole:
    name: str
    never: int | None = None
    parts: tuple[Part, ...]
    own: Part | None = field(default=None, metadata=BESIDE)
    by_name: dict[str, Part]


def test_fields_keep_their_names_and_their_order():
    part = Part(part=1, other=None)
    whole = Whole(name="é", parts=(part,), own=Part(part=2, other=0.5), by_name={"a b": part})
    expected = {
        "name": "é",
        "parts": [{"part": 1, "other": None}],
        "part": 2,
        "other": 0.5,
        "by_name": {"a b": {"part": 1, "other": None}},
    }
    assert plain(whole) == expected
    assert list(plain(whole)) == list(expected)
    assert json.loads(to_json(whole)) == expected
    assert to_json(whole).endswith("}\n")


def test_what_was_not_measured_is_left_out():
    assert plain(Whole(name="", parts=(), by_name={})) == {"name": "", "parts": [], "by_name": {}}
    assert plain(Whole(name="", parts=(), by_name={}, never=0))["never"] == 0


def test_no_number_is_not_a_number():
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(Part(part=1, other=float("nan")))
