"""Reading archives of arrays that anybody may have written: nothing is allocated before its size is known to be true."""

import ast
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from model.support.files import opened
from model.support.names import printable

__all__ = ["ArchiveError", "Npz", "read_npz"]

_ENDING = ".npy"

_MOST_MEMBERS = 4000
_MOST_HEADER = 4096
"""Bytes of an array's header; what numpy writes for arrays of numbers is 128 long."""

_END = struct.Struct("<4s4H2LH")
"""The last record of an archive: signature, four counts, length and place of the directory, length of a comment."""

_END_64 = struct.Struct("<4sQ2H2L4Q")
"""The same of a large archive: signature, length, two versions, two disks, two counts, length and place of the directory."""

_LOCATOR_BYTES = 20
"""Of the record that says where that one is; it stands between the two."""

_ENTRY_BYTES = 1000
"""The directory's at the most for a member, name and extras included."""

_CHUNK = 1 << 20


class ArchiveError(ValueError):
    """An archive of arrays is not what it must be; one line."""


class Npz:
    """An ``.npz`` file, of which arrays are read one by one; a context manager.

    Parameters
    ----------
    path : Path
        The file.
    most_bytes : int
        What the arrays that are read may hold together; more is refused before it is read.
    kinds : str
        What the arrays may hold, as numpy's ``dtype.kind``; numbers by default.

    Attributes
    ----------
    names : tuple of str
        Of the arrays, without the ending ``.npy``.
    others : tuple of str
        Members that are no arrays by their names.

    Raises
    ------
    ArchiveError
        The file is damaged, has too many members, or one twice.
    OSError
        The file cannot be read.
    """

    def __init__(self, path: Path, *, most_bytes: int, kinds: str = "biuf") -> None:
        self._left, self._kinds = most_bytes, kinds
        self._file = opened(path)
        try:
            _check_directory(self._file)
            with _in_one_line():
                self._archive = zipfile.ZipFile(self._file)
            members = self._archive.infolist()
            if len(members) > _MOST_MEMBERS:
                raise ArchiveError(f"must have at most {_MOST_MEMBERS} members, not {len(members)}")
            self._members: dict[str, zipfile.ZipInfo] = {}
            for member in members:
                if member.filename in self._members:
                    raise ArchiveError(f"member {member.filename!r} must not be there twice")
                self._members[member.filename] = member
        except BaseException:
            self._file.close()
            raise
        self.names = tuple(name.removesuffix(_ENDING) for name in self._members if name.endswith(_ENDING))
        self.others = tuple(name for name in self._members if not name.endswith(_ENDING))

    def __enter__(self) -> "Npz":
        return self

    def __exit__(self, *error: object) -> None:
        self._archive.close()
        self._file.close()

    def array(self, name: str) -> npt.NDArray[Any]:
        """An array by its name.

        Raises
        ------
        ArchiveError
            It is damaged, holds what it must not, or its size is not what its header says; one line that names the member.
        """
        member = self._members[f"{name}{_ENDING}"]
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArchiveError(f"member {member.filename!r} must be stored or deflated")
        with _in_one_line(), self._archive.open(member) as stream:
            found = _array(stream, member, self._left, self._kinds)
        self._left -= found.nbytes
        return found


def read_npz(path: Path, *, most_bytes: int) -> dict[str, npt.NDArray[np.number]]:
    """The arrays of an ``.npz`` file, of numbers only.

    Parameters
    ----------
    path : Path
        The file.
    most_bytes : int
        What all arrays together may hold; more is refused before it is read.

    Returns
    -------
    dict
        The arrays by name, without the ending ``.npy``.

    Raises
    ------
    ArchiveError
        The file is damaged, a member stands twice, or its size is not what its header says; one line that names the member.
    OSError
        The file cannot be read.
    """
    with Npz(path, most_bytes=most_bytes) as archive:
        if archive.others:
            raise ArchiveError(f"members must be arrays, which end in {_ENDING}, not {archive.others[0]!r}")
        return {name: archive.array(name) for name in archive.names}


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Whatever zipfile raises of a damaged archive is an `ArchiveError`."""
    try:
        yield
    except ArchiveError:
        raise
    # zipfile gives a RuntimeError for a password, a NotImplementedError for methods that it does not know.
    except (zipfile.BadZipFile, zlib.error, struct.error, ValueError, EOFError, RuntimeError, OverflowError) as error:
        raise ArchiveError(f"must be a whole archive of arrays: {printable(str(error))}") from None


def _check_directory(file: IO[bytes]) -> None:
    """Refuse a directory so long that reading it would take all memory."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size - _LOCATOR_BYTES - _END_64.size))
    tail = file.read()
    record = tail[-_END.size :]
    if len(record) < _END.size or not record.startswith(b"PK\5\6"):
        raise ArchiveError("must be a whole archive of arrays: its end is missing")
    directory = _END.unpack(record)[5]
    # Archives of more than 4 GB have a second record, and what says where it is, before it.
    second = tail[: -_END.size][-_LOCATOR_BYTES - _END_64.size :]
    if second[-_LOCATOR_BYTES:].startswith(b"PK\6\7"):
        if len(second) < _LOCATOR_BYTES + _END_64.size or not second.startswith(b"PK\6\6"):
            raise ArchiveError("must be a whole archive of arrays: its second end is missing")
        directory = _END_64.unpack_from(second)[8]
    if directory > _MOST_MEMBERS * _ENTRY_BYTES:
        raise ArchiveError(f"must have at most {_MOST_MEMBERS} members")


def _array(stream: IO[bytes], member: zipfile.ZipInfo, most_bytes: int, kinds: str) -> npt.NDArray[Any]:
    where = f"member {member.filename!r}"
    preamble = stream.read(8)
    if preamble[:6] != b"\x93NUMPY" or preamble[6:] not in (b"\1\0", b"\2\0"):
        raise ArchiveError(f"{where} must be an array")
    digits = stream.read(2 if preamble[6] == 1 else 4)
    length = int.from_bytes(digits, "little")
    if length > _MOST_HEADER:
        raise ArchiveError(f"{where} must have a header of at most {_MOST_HEADER} bytes, not {length}")
    dtype, shape, fortran_order = _described(where, stream.read(length), kinds)
    size = math.prod(shape) * dtype.itemsize
    start = len(preamble) + len(digits) + length
    if member.file_size != start + size:
        raise ArchiveError(f"{where} must hold the {size} bytes of its shape {shape}, not {member.file_size - start}")
    if size > most_bytes:
        raise ArchiveError(f"{where} must hold at most {most_bytes} bytes, not {size}")
    # It grows with what there is: whether that is as much as is said shows at the end only.
    content = bytearray()
    while part := stream.read(min(_CHUNK, size - len(content)) or 1):
        # One byte more than there may be is asked for at the end, which is where the checksum is compared.
        if len(content) + len(part) > size:
            raise ArchiveError(f"{where} must hold {size} bytes, not more")
        content += part
    if len(content) < size:
        raise ArchiveError(f"{where} must hold {size} bytes, not {len(content)}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")


def _described(where: str, header: bytes, kinds: str) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """What an array's header says: kind of number, shape, and whether the first index is the fastest."""
    try:
        # No more than NumPy passes over: Python's own strip takes control characters too.
        described = ast.literal_eval(header.decode("ascii").rstrip(" \n"))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        described = None
    if not isinstance(described, dict) or set(described) != {"descr", "fortran_order", "shape"}:
        raise ArchiveError(f"{where} must have an array's header")
    descr, shape, fortran_order = described["descr"], described["shape"], described["fortran_order"]
    if not isinstance(descr, str) or not isinstance(fortran_order, bool):
        raise ArchiveError(f"{where} must hold numbers, not {descr!r}")
    if not isinstance(shape, tuple) or not all(type(size) is int and 0 <= size < 1 << 48 for size in shape) or len(shape) > 8:
        raise ArchiveError(f"{where} must have a shape of up to 8 sizes, not {shape!r}")
    try:
        dtype = np.dtype(descr)
    except (TypeError, ValueError):
        dtype = np.dtype(object)
    if dtype.kind not in kinds:
        raise ArchiveError(f"{where} must hold numbers, not {descr!r}")
    return dtype, shape, fortran_order
