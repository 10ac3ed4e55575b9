"""Archives of arrays (``.npz``) that are wrong in any of their layers: values, shapes, headers, members, directory, bytes."""

import bz2
import io
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.fuzzing.mutations import NUMBERS, TEXTS, edited_json, noisy, number_near

__all__ = ["archive_of", "edited_archive"]

_DTYPES = ("u1", "i1", "<i2", ">i2", "<u2", "<i4", ">i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", "?", "<c8")

_DESCRS = (
    *("'|O'", "'|V8'", "'|S4'", "'<U4'", "'<f16'", "'<m8[s]'", "'x'", "'|u1,|u1'", "[('a', '<i4')]", "'<i4\\n'", "''"),
    *("'<U99999999'", "'|b1'", "'<u8'", "'>i2'", "None", "1", "'int'", "'i' * 9", "__import__('os')", "'" + "9" * 400 + "i4'"),
)
"""What an array's header may say of its numbers."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)

_MOST_BYTES = 1 << 16
"""Of a member that grows."""

Member = tuple[str, bytes]
"""Name and content."""


def archive_of(arrays: dict[str, npt.NDArray[Any]]) -> bytes:
    """The arrays as an archive, not compressed."""
    return _written([(f"{name}.npy", _npy(array)) for name, array in arrays.items()], [zipfile.ZIP_STORED])


def edited_archive(content: bytes, chance: random.Random, *, text: str = "", words: Sequence[str] = ()) -> bytes:
    """An archive with something changed in it.

    Parameters
    ----------
    content : bytes
        The archive; what is none gets noise.
    chance : random.Random
        What is drawn from.
    text : str
        Name of the array that holds JSON text as bytes, where there is one.
    words : sequence of str
        Texts that its values and names may have.
    """
    kind = chance.random()
    if kind < 0.06:
        return noisy(content, chance)
    members = list(_members(content))
    if not members:
        return noisy(content, chance)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        texts = [at for at, (name, _) in enumerate(members) if name == f"{text}.npy"]
        if texts and chance.random() < 0.5:
            members[texts[0]] = (members[texts[0]][0], _with_text(members[texts[0]][1], chance, words))
            continue
        at = chance.randrange(len(members))
        edit = chance.choice(_EDITS)
        if edit is _of_members:
            _of_members(members, at, chance)
            members = members or [("none.npy", b"")]
        else:
            members[at] = (members[at][0], edit(members[at][1], chance))
    methods = [zipfile.ZIP_STORED]
    if chance.random() < 0.1:
        methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]
        if chance.random() < 0.3:
            methods = [chance.choice(_METHODS) for _ in members]
    found = _written(members, methods)
    return _with_claims(found, chance) if kind < 0.15 else found


@lru_cache(maxsize=32)
def _members(content: bytes) -> tuple[Member, ...]:
    """What an archive holds; nothing where it is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return tuple((each.filename, archive.read(each)) for each in archive.infolist())
    except Exception:
        # Whatever is wrong with one that is changed already.
        return ()


def _npy(array: npt.NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    fortran = array.ndim > 1 and array.flags.f_contiguous and not array.flags.c_contiguous
    header = f"{{'descr': {np.lib.format.dtype_to_descr(array.dtype)!r}, 'fortran_order': {fortran}, 'shape': {array.shape!r}, }}"
    major, minor = version or (1, 0)
    digits = 2 if major == 1 else 4
    padded = header.encode() + b" " * (-(len(header) + 9 + digits) % 64) + b"\n"
    start = b"\x93NUMPY" + bytes([major, minor]) + len(padded).to_bytes(digits, "little")
    return start + padded + array.tobytes("F" if fortran else "C")


@lru_cache(maxsize=32)
def _array(content: bytes) -> npt.NDArray[Any] | None:
    """The array of a member; None where it is none."""
    try:
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception:
        return None


def _with_text(content: bytes, chance: random.Random, words: Sequence[str]) -> bytes:
    array = _array(content)
    if array is None or array.dtype != np.uint8:
        return noisy(content, chance)
    return _npy(np.frombuffer(edited_json(array.tobytes(), chance, words), np.uint8))


def _values(content: bytes, chance: random.Random) -> bytes:
    """Some of an array's numbers are at their ends."""
    array = _array(content)
    if array is None or not array.size or array.dtype.kind not in "iufb":
        return noisy(content, chance)
    array = array.copy()
    # Such arrays are often those of something that is right.
    is_near = chance.random() < 0.5
    for _ in range(chance.choice((1, 1, 4, min(30, array.size)))):
        at = chance.randrange(array.size)
        if array.dtype.kind == "f":
            array.flat[at] = chance.choice((np.nan, np.inf, -np.inf, 0.5, 1.0, 255.0, 255.5, -1.0, 6e4, 1e-30))
        else:
            info = np.iinfo(array.dtype) if array.dtype.kind in "iu" else None
            low, high = (int(info.min), int(info.max)) if info else (0, 1)
            value = int(array.flat[at])
            others = (value - 2, value - 1, value + 1, -value) if is_near else (low, high, number_near(value, chance))
            array.flat[at] = max(low, min(high, chance.choice(others)))
    return _npy(array)


def _form(content: bytes, chance: random.Random) -> bytes:
    """An array of another type or shape."""
    array = _array(content)
    if array is None:
        return noisy(content, chance)
    kind = chance.randrange(8)
    with np.errstate(all="ignore"):
        if kind < 3:
            array = array.astype(chance.choice(_DTYPES if array.dtype.kind in "iufb" else ("U2", "S3")))
        elif kind == 3:
            array = np.asfortranarray(array.T if chance.random() < 0.5 else array)
        elif kind == 4:
            array = array.reshape(chance.choice(((-1,), (1, *array.shape), (*array.shape, 1), (1, 1, -1))))
        elif kind == 5 and array.ndim:
            array = array[: chance.choice((0, 1, max(0, len(array) - 1)))]
        elif kind == 6 and array.ndim and array.nbytes < _MOST_BYTES:
            array = np.concatenate([array] * chance.choice((2, 3)), axis=chance.randrange(array.ndim))
        else:
            array = array.reshape(-1)[:1].reshape(()) if array.size else array
    return _npy(array, chance.choice((None, None, None, (2, 0), (3, 0))))


def _header(content: bytes, chance: random.Random) -> bytes:
    """An array's header that says something else, whole as such."""
    if content[:6] != b"\x93NUMPY" or len(content) < 10:
        return noisy(content, chance)
    size = int.from_bytes(content[8:10], "little")
    text, rest = content[10 : 10 + size].decode("latin1"), content[10 + size :]
    shape = text[text.find("(") : text.find(")") + 1]
    sizes = [chance.choice((1, 2, chance.choice(NUMBERS))) for _ in range(chance.choice((0, 1, 2, 4, 9, 40)))]
    one = f"({chance.choice(NUMBERS)},)"
    claimed = chance.choice((str(tuple(sizes)), one, "(" * 200 + ")" * 200, "[1]", "(1.5,)", "(True,)", "()"))
    descr = text[text.find("'descr': ") + 9 : text.find(", 'fortran")]
    text = chance.choice(
        (
            text.replace(shape, claimed),
            text.replace(shape, claimed),
            text.replace(descr, chance.choice(_DESCRS)),
            text.replace(descr, chance.choice(_DESCRS)),
            text.replace("False", chance.choice(("True", "0", "None", "'x'"))),
            text.replace("}", f", {chance.choice(TEXTS)!r}: 1}}"),
            text.replace("{", "{'a': " + "-" * chance.choice((10, 3000)) + "1, "),
            "{" * 100,
            "",
        )
    )
    raw = text.encode("latin1", errors="replace")[: chance.choice((0xFFFF, 0xFFFF, 200))]
    start = content[:6] + chance.choice((*[b"\1\0"] * 9, b"\2\0", b"\3\0", b"\0\0", b"\xff\xff"))
    length = chance.choice((len(raw), len(raw), len(raw), 0, len(raw) + 64, 0xFFFF))
    return start + length.to_bytes(4 if start[6] == 2 else 2, "little") + raw + rest


def _size(content: bytes, chance: random.Random) -> bytes:
    """A member that is shorter or longer than it says."""
    return chance.choice((content[: len(content) // 2], content[:-1], content + b"\0", content + content, b"", bytes(1 << 17)))


def _of_members(members: list[Member], at: int, chance: random.Random) -> None:
    """Members that are missing, there twice, or called otherwise; an archive in the archive."""
    kind = chance.randrange(7)
    name, content = members[at]
    other = chance.choice(members)
    if kind == 0:
        del members[at]
    elif kind == 1:
        members.append((name, other[1]))
    elif kind == 2:
        text = f"{chance.choice(TEXTS)[:2000]}.npy"
        members[at] = (chance.choice((text, name[:-4], name.upper(), f"../{name}", name + "/")), content)
    elif kind == 3:
        members[at] = (other[0], content)
    elif kind == 4:
        members[at] = (name, _written(members, [zipfile.ZIP_DEFLATED]))
    elif kind == 5:
        members.append((chance.choice(("more.npy", "text.txt", "classes.npy", "x.npy", "y.npy", "dir/")), content))
    else:
        members.extend((f"m{number}.npy", b"") for number in range(chance.choice((10, 10, 10, 4100))))


_EDITS: tuple[Callable[..., Any], ...] = (*[_values] * 12, _form, _form, _header, _size, _of_members, noisy)


_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")


def _written(members: Sequence[Member], methods: Sequence[int]) -> bytes:
    """An archive, whatever its members are called, one name twice too; the library's own takes ten times as long."""
    parts, directory, at = [], [], 0
    for number, (name, content) in enumerate(members):
        method = methods[number % len(methods)]
        packed, text = _packed(content, method), name.encode(errors="replace")[:0xFFFF]
        # A name that is not ASCII is UTF-8.
        sizes = (method, 0, 0x21, zlib.crc32(content), len(packed), len(content), len(text))
        flags = 0 if text.isascii() else 0x800
        parts += [_LOCAL.pack(b"PK\3\4", 20, flags, *sizes, 0), text, packed]
        directory += [_CENTRAL.pack(b"PK\1\2", 20, 20, flags, *sizes, 0, 0, 0, 0, 0, at), text]
        at += _LOCAL.size + len(text) + len(packed)
    entries, count = b"".join(directory), len(members) & 0xFFFF
    return b"".join([*parts, entries, _END.pack(b"PK\5\6", 0, 0, count, count, len(entries), at, 0)])


def _packed(content: bytes, method: int) -> bytes:
    """The content as a method of compression has it."""
    if method == zipfile.ZIP_DEFLATED:
        return zlib.compress(content, 1)[2:-4]
    return bz2.compress(content, 1) if method == zipfile.ZIP_BZIP2 else content


_CLAIMS = ((8, "H"), (10, "H"), (16, "I"), (20, "I"), (24, "I"), (28, "H"), (30, "H"), (42, "I"))
"""Places in a directory's entry: flags, method, checksum, compressed size, size, lengths of name and of extras, offset."""


def _with_claims(content: bytes, chance: random.Random) -> bytes:
    """A directory that lies; of a member that claims to be large, its own header agrees."""
    found = bytearray(content)
    entries = [match.start() for match in re.finditer(b"PK\1\2", found) if match.start() < len(found) - 46]
    if not entries:
        return noisy(content, chance)
    entry = chance.choice(entries)
    if chance.random() < 0.5:
        at, form = chance.choice(_CLAIMS)
        (before,) = struct.unpack_from(f"<{form}", found, entry + at)
        most = (1 << 8 * struct.calcsize(form)) - 1
        struct.pack_into(f"<{form}", found, entry + at, number_near(before, chance) & most)
        return bytes(found)
    # A size that the array's own header claims as well.
    local = struct.unpack_from("<I", found, entry + 42)[0]
    start = local + 30 + sum(struct.unpack_from("<HH", found, local + 26))
    shape = found.find(b"'shape': (", start)
    end = found.find(b"}", shape)
    if shape < 0 or end < 0:
        return noisy(content, chance)
    size = chance.choice((1 << 20, 100 << 20, (1 << 27) - 1, 1 << 27, 1 << 30, 4_000_000_000, (1 << 32) - 1000))
    header = int.from_bytes(found[start + 8 : start + 10], "little") + 10
    text = found[start + 10 : shape].decode("latin1")
    try:
        width = max(1, np.dtype(text[text.find("'descr': '") + 10 : text.find("', 'fort")]).itemsize)
    except Exception:
        return noisy(content, chance)
    room = end - shape
    claim = f"'shape': ({size // width},), ".ljust(room).encode()[:room]
    found[shape:end] = claim
    # What is there has a right checksum, if it is not compressed.
    packed = struct.unpack_from("<I", found, entry + 20)[0]
    values = zlib.crc32(found[start : start + packed]), packed, min(0xFFFFFFFE, header + size // width * width)
    for place in (entry + 16, local + 14):
        struct.pack_into("<3I", found, place, *values)
    return bytes(found)
