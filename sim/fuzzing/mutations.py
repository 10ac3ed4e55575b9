"""What may be wrong with any file: bytes that are turned, lost, doubled or spliced in, and values of JSON at their ends.

All is drawn from a `random.Random`, so that an input is the same wherever it is drawn.
"""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = ["NUMBERS", "TEXTS", "edited_json", "noisy", "number_near"]

NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 100, 127, 128, 129, 254, 255, 256, 257, 1000, 1001, 4095, 4096),
    *(32767, 32768, -32768, 65535, 65536, 65537, 1 << 20, 1 << 23, 1 << 24, (1 << 31) - 1, 1 << 31, -(1 << 31)),
    *((1 << 32) - 1, 1 << 32, 1 << 48, 1 << 53, (1 << 63) - 1, 1 << 63, -(1 << 63), 1 << 64, 10**30),
)
"""Whole numbers at the ends of what something may hold."""

_FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-320, 1e-30, 3.4e38, 1e39, 1e300, float("inf"), float("-inf"), float("nan"))

TEXTS = (
    *("", " ", "input", "image", "0", "null", "a" * 101, "x" * 5000, "\x1b[31mred\x1b[0m", "\x1b]0;own\x07", "two\nlines"),
    *("\0", "\u202eevil", "\ud800", "\u00e9\u4e2d\U0001f600", "../../etc/passwd", "/dev/zero", "a/b", "$(id)", "-x", ".x"),
    *("__proto__", "relu", "identity", "immediate", "deferred", "pipeline", "folded", "NaN", "%s%n", "{0}", "<b>", "conv1"),
)
"""Texts that are no names, or those of something else."""

_DEEP = "@deep@"
"""Stands in a tree for what is nested more deeply than a tree can be written."""

_MOST_BYTES = 1 << 16
"""Beyond which bytes are not made more."""


def number_near(value: int, chance: random.Random) -> int:
    """Another whole number: one beside it, a multiple, or one at an end."""
    kind = chance.random()
    if kind < 0.55:
        return value + chance.choice((-2, -1, 1, 2))
    if kind < 0.7:
        return chance.choice((-value, 2 * value, value // 2, value * value, value << 8, value ^ 1 << chance.randrange(40)))
    return chance.choice(NUMBERS)


def noisy(content: bytes, chance: random.Random, times: int | None = None) -> bytes:
    """The bytes with a few places that are wrong, whatever they mean."""
    found = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8)) if times is None else times):
        chance.choice(_NOISES)(found, chance)
    return bytes(found)


def _place(found: bytearray, chance: random.Random) -> tuple[int, int]:
    """Begin and end of some of the bytes; rather few."""
    begin = chance.randrange(len(found) + 1)
    most = chance.choice((1, 2, 4, 16, 64, 1024))
    return begin, min(len(found), begin + chance.randint(1, most))


def _flip(found: bytearray, chance: random.Random) -> None:
    if found:
        found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)


def _set(found: bytearray, chance: random.Random) -> None:
    if found:
        found[chance.randrange(len(found))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def _word(found: bytearray, chance: random.Random) -> None:
    """A number at an end, as two, four or eight bytes."""
    size = chance.choice((2, 4, 8))
    if len(found) >= size:
        begin = chance.randrange(len(found) - size + 1)
        number = chance.choice(NUMBERS) & (1 << 8 * size) - 1
        found[begin : begin + size] = number.to_bytes(size, chance.choice(("little", "big")))


def _cut(found: bytearray, chance: random.Random) -> None:
    begin, end = _place(found, chance)
    del found[begin:end]


def _truncate(found: bytearray, chance: random.Random) -> None:
    del found[chance.randrange(len(found) + 1) :]


def _insert(found: bytearray, chance: random.Random) -> None:
    begin, _ = _place(found, chance)
    found[begin:begin] = chance.randbytes(chance.choice((1, 1, 2, 4, 30)))


def _double(found: bytearray, chance: random.Random) -> None:
    begin, end = _place(found, chance)
    if len(found) < _MOST_BYTES:
        found[end:end] = found[begin:end] * chance.choice((1, 1, 2, 50))


def _splice(found: bytearray, chance: random.Random) -> None:
    """Some of the bytes once more, elsewhere."""
    begin, end = _place(found, chance)
    at, over = _place(found, chance)
    found[at : chance.choice((at, over))] = found[begin:end]


_NOISES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_flip, _flip, _flip, _set, _set, _word, _word, _cut, _truncate, _insert, _double, _splice),
)


def edited_json(content: bytes, chance: random.Random, words: Sequence[str] = ()) -> bytes:
    """JSON text with some of its values changed, or with something that is hardly JSON any more.

    Parameters
    ----------
    content : bytes
        The text; what is none gets noise.
    chance : random.Random
        What is drawn from.
    words : sequence of str
        Texts besides those of the document that may take the place of a text or a name.
    """
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return noisy(content, chance)
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 6))):
        tree = _edited(tree, chance, words)
    try:
        text = json.dumps(tree)
    except (ValueError, RecursionError):
        return noisy(content, chance)
    if _DEEP in text:
        depth = chance.choice((50, 900, 1100, 20_000))
        text = text.replace(f'"{_DEEP}"', chance.choice(("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth)), 1)
    return _spelled(text, chance)


def _spelled(text: str, chance: random.Random) -> bytes:
    """The text as it is, or as other programs might write it."""
    kind = chance.random()
    if kind < 0.9:
        return text.encode(errors="surrogatepass")
    if kind < 0.92:
        return text.encode("utf-16", errors="surrogatepass")
    if kind < 0.94:
        return b"\xef\xbb\xbf" + text.encode()
    if kind < 0.96:
        # A field that is there twice.
        at = text.find("{") + 1
        return (text[:at] + text[at:].partition(",")[0].rstrip("}") + "," + text[at:]).encode()
    if kind < 0.97:
        return (text + chance.choice((" {}", "\0", "]", "  \n"))).encode()
    if kind < 0.98:
        digits = "9" * chance.choice((300, 4000, 5000))
        return text.replace("1", digits, 1).encode()
    return noisy(text.encode(), chance)


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every container of a tree with every key of it."""
    found: list[tuple[Any, Any]] = []
    left = [tree]
    while left and len(found) < 5000:
        each = left.pop()
        values: Iterable[Any] = ()
        if isinstance(each, dict):
            found += [(each, key) for key in each]
            values = each.values()
        elif isinstance(each, list):
            found += [(each, at) for at in range(len(each))]
            values = each
        left += [value for value in values if isinstance(value, (dict, list))]
    return found


def _edited(tree: Any, chance: random.Random, words: Sequence[str]) -> Any:
    """A tree with one of its values changed, in place where that can be."""
    places = _places(tree)
    if not places or chance.random() < 0.01:
        return chance.choice((None, [], {}, 1, "text", [tree], {"a": tree}, _DEEP))
    container, key = chance.choice(places)
    value = container[key]
    kind = chance.random()
    if kind < 0.12:
        container[key] = _any(chance, words)
    elif kind < 0.2:
        del container[key]
    elif kind < 0.28 and isinstance(container, dict):
        container[chance.choice((*words, *TEXTS, f"{key}2"))] = container.pop(key)
    elif kind < 0.34 and isinstance(container, dict):
        container[chance.choice((*words, *TEXTS, f"{key}2"))] = _any(chance, words)
    elif kind < 0.34 and len(container) < 2000:
        container.insert(chance.randrange(len(container) + 1), chance.choice((value, _any(chance, words))))
    elif kind < 0.42:
        # What stands elsewhere.
        other, place = chance.choice(places)
        container[key] = json.loads(json.dumps(other[place])) if place in _keys(other) else None
    elif isinstance(value, bool):
        container[key] = chance.choice((not value, int(value), str(value), None))
    elif isinstance(value, int):
        container[key] = chance.choice((*(number_near(value, chance) for _ in range(4)), float(value % 1000), str(value)[:20]))
    elif isinstance(value, float):
        container[key] = chance.choice(_FLOATS)
    elif isinstance(value, str):
        container[key] = chance.choice((*words, *TEXTS))
    elif isinstance(value, list) and value:
        container[key] = chance.choice((value[:-1], value + value[-1:], value * chance.choice((2, 40)), value[::-1], [value], []))
    elif isinstance(value, dict):
        container[key] = chance.choice((list(value), [value], dict(list(value.items())[1:])))
    else:
        container[key] = _any(chance, words)
    return tree


def _keys(container: Any) -> Any:
    return container if isinstance(container, dict) else range(len(container))


def _any(chance: random.Random, words: Sequence[str]) -> Any:
    """Any value that JSON has, and some that it has not."""
    return chance.choice(
        (
            *(None, True, False, [], {}, [1], {"a": 1}, _DEEP, [[]] * 30),
            *(chance.choice(NUMBERS), chance.choice(NUMBERS), chance.choice(_FLOATS), chance.choice((*words, *TEXTS))),
        )
    )
