"""Damaged files: values that no field expects, put anywhere into a tree of JSON, and bytes turned over anywhere."""

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model.support.errors import BadInputError

NASTY: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 255, 256, 1 << 31, 1 << 70, 0.0, 0.5, -0.0, 1e308, float("inf"), float("nan"), "", "input",
    "relu", "a b", "../x", "<b>", "\x1b[2J", "é", "a\n", "x" * 5000, [], [1], [1, 1], [1, 1, 1], [1, 1, 1, 1], [[]], [None], {},
    {"name": "a"}, "1", [2, 2], [0, 0], ["1", "1"], [True, True], [1.0, 1.0], [60000, 60000, 1],
)  # fmt: skip


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every container of a tree with every key of it."""
    found: list[tuple[Any, Any]] = []
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        found += [(tree, key), *places(value)]
    return found


def mutated_tree(tree: Any, chance: random.Random) -> Any:
    """A copy with one to three values replaced, taken out, put in, or exchanged."""
    tree = copy.deepcopy(tree)
    for _ in range(chance.randint(1, 3)):
        container, key = chance.choice(places(tree))
        kind = chance.randrange(8)
        if kind == 0:
            del container[key]
        elif kind == 1 and isinstance(container, list):
            container.insert(key, copy.deepcopy(chance.choice(container)))
        elif kind == 1:
            container[chance.choice(("extra", "name", "groups", "kind", "watch"))] = chance.choice(NASTY)
        elif kind == 2:
            other, other_key = chance.choice(places(tree))
            container[key] = copy.deepcopy(other[other_key])
        elif kind == 3 and isinstance(container[key], int):
            container[key] += chance.choice((-1, 1, 8))
        else:
            container[key] = copy.deepcopy(chance.choice(NASTY))
        if not places(tree):
            break
    return tree


def mutated_bytes(content: bytes, chance: random.Random) -> bytes:
    """A copy with bytes turned over, cut out, put in or repeated."""
    damaged = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(damaged) + 1)
        kind = chance.randrange(4)
        if kind == 0:
            damaged[at : at + chance.randint(1, 20)] = b""
        elif kind == 1:
            damaged[at:at] = damaged[at : at + chance.randint(1, 300)]
        elif kind == 2:
            damaged[at : at + 1] = bytes([chance.randrange(256)])
        else:
            damaged[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\1\0\0\0"))
    return bytes(damaged)


def loaded(load: Callable[[Path], Any], path: Path) -> Any:
    """What ``load`` makes of a file; None where it refuses it, which must be in one line that names it and is not endless."""
    try:
        return load(path)
    except BadInputError as error:
        message = str(error)
    assert message.startswith((f"{path}: ", "plan ")) and "\n" not in message and len(message) < 2000
    return None
