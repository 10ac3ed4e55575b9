"""Protocol buffers, such as ONNX files, with fields that are changed by what kind they are."""

import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from sim.fuzzing.mutations import NUMBERS, TEXTS, noisy, number_near

__all__ = ["edited_message"]

_BITS = {
    FieldDescriptor.TYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.TYPE_UINT64: (0, (1 << 64) - 1),
    FieldDescriptor.TYPE_BOOL: (0, 1),
}
"""Least and greatest number of each kind of field."""

_FLOATS = (0.0, 1.0, -1.0, 0.5, 1e-30, 3e38, -3e38, float("inf"), float("nan"), 2.0**-4)

_MOST_PLACES = 4000

Place = tuple[Message, FieldDescriptor]


def edited_message(content: bytes, kind: type[Message], chance: random.Random, words: tuple[str, ...]) -> bytes:
    """A message with some of its fields changed.

    Parameters
    ----------
    content : bytes
        The message; what is none gets noise.
    kind : type
        Its kind.
    chance : random.Random
        What is drawn from.
    words : tuple of str
        What a text may be, besides those of the message.
    """
    if chance.random() < 0.1:
        return noisy(content, chance)
    message = kind()
    try:
        message.ParseFromString(content)
    except DecodeError:
        return noisy(content, chance)
    for _ in range(chance.choice((1, 1, 1, 2, 2, 4))):
        places = _places(message)
        if not places:
            break
        _edit(*chance.choice(places), places, chance, words)
    return message.SerializePartialToString()


def _texts(places: list[Place]) -> list[str]:
    """All texts of a message."""
    found: list[str] = []
    for owner, field in places:
        if field.type == field.TYPE_STRING:
            value = getattr(owner, field.name)
            found += value if field.is_repeated else [value]
    return found


def _places(message: Message) -> list[Place]:
    """Every field that is set, of the message and of all in it."""
    found: list[Place] = []
    left = [message]
    while left and len(found) < _MOST_PLACES:
        owner = left.pop()
        for field, value in owner.ListFields():
            found.append((owner, field))
            if field.type == field.TYPE_MESSAGE:
                left.extend(value if field.is_repeated else [value])
    return found


def _edit(owner: Message, field: FieldDescriptor, places: list[Place], chance: random.Random, words: tuple[str, ...]) -> None:
    """Change one field."""
    kind = chance.random()
    if kind < 0.08:
        owner.ClearField(field.name)
    elif kind < 0.16:
        _add(owner, places, chance, words)
    elif field.is_repeated:
        _edit_list(owner, field, places, chance, words)
    elif field.type == field.TYPE_MESSAGE:
        others = [getattr(other, of.name) for other, of in places if of.message_type is field.message_type and not of.is_repeated]
        copy = type(others[0])()
        copy.CopyFrom(chance.choice(others))
        getattr(owner, field.name).CopyFrom(copy)
    else:
        setattr(owner, field.name, _value(getattr(owner, field.name), field, places, chance, words))


def _add(owner: Message, places: list[Place], chance: random.Random, words: tuple[str, ...]) -> None:
    """Set a field that need not be set."""
    field = chance.choice(owner.DESCRIPTOR.fields)
    value = getattr(owner, field.name)
    if field.type == field.TYPE_MESSAGE:
        if field.is_repeated:
            value.add()
        else:
            value.SetInParent()
    elif field.is_repeated:
        value.append(_value(None, field, places, chance, words))
    else:
        setattr(owner, field.name, _value(value, field, places, chance, words))


def _edit_list(
    owner: Message, field: FieldDescriptor, places: list[Place], chance: random.Random, words: tuple[str, ...]
) -> None:
    """Change one of a field's several values, or their number."""
    values = getattr(owner, field.name)
    at = chance.randrange(len(values))
    kind = chance.random()
    is_message = field.type == field.TYPE_MESSAGE
    if kind < 0.25:
        del values[at]
    elif kind < 0.45:
        for _ in range(chance.choice((1, 1, 1, 20))):
            if is_message:
                values.add().CopyFrom(values[at])
            else:
                values.append(values[at])
    elif is_message:
        other = chance.randrange(len(values))
        if kind < 0.7:
            copy = type(values[at])()
            copy.CopyFrom(values[at])
            values[at].CopyFrom(values[other])
            values[other].CopyFrom(copy)
        else:
            values[at].CopyFrom(values[other])
    else:
        values[at] = _value(values[at], field, places, chance, words)


def _value(
    value: Any, field: FieldDescriptor, places: list[Place], chance: random.Random, words: tuple[str, ...]
) -> Any:
    """Another value for a field."""
    if field.type == field.TYPE_STRING:
        return chance.choice((*words, *_texts(places), *TEXTS)).encode(errors="replace").decode()
    if field.type == field.TYPE_BYTES:
        return noisy(value or b"\0\0\0\0", chance)
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return chance.choice(_FLOATS)
    if field.type == field.TYPE_ENUM:
        return chance.choice(field.enum_type.values).number
    low, high = _BITS[field.type]
    number = chance.choice((number_near(int(value or 0), chance), chance.randrange(25), chance.choice(NUMBERS)))
    return max(low, min(high, number))
