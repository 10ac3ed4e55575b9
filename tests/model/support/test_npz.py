"""Archives of arrays that lie or claim too much take no memory."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from model.support import cifar, own_data
from model.support.dataset import DataError
from model.support.datasets import load
from model.support.npz import ArchiveError, Npz, read_npz

MEGABYTE = 1 << 20


def member(shape, content=b"", descr="|u1"):
    made = io.BytesIO()
    np.lib.format.write_array_header_1_0(made, {"descr": descr, "fortran_order": False, "shape": shape})
    return made.getvalue() + content


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(f"{name}.npy", content)
    return path


def peak(function):
    """Bytes that were allocated at most, and what was raised."""
    tracemalloc.start()
    try:
        with pytest.raises((DataError, ArchiveError)) as caught:
            function()
        return tracemalloc.get_traced_memory()[1], str(caught.value)
    finally:
        tracemalloc.stop()


LABELS = member((3,), bytes(24), "<i8")


def test_a_data_set_that_claims_terabytes(tmp_path):
    path = archive(tmp_path / "own.npz", images=member((1 << 40, 28, 28), b"x"), labels=LABELS)
    size, said = peak(lambda: load(str(path), "test"))
    assert size < 4 * MEGABYTE
    assert said == (
        f"{path}: dataset: member 'images.npy' must hold the {(1 << 40) * 784} bytes of its shape (1099511627776, 28, 28), not 1"
    )


def test_a_directory_that_claims_what_the_header_claims(tmp_path):
    """Sizes and checksum agree with each other, and only the content is not there."""
    path, size = tmp_path / "own.npz", 1 << 30
    content = member((size,), bytes(16))
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("images.npy", content)
        made.writestr("labels.npy", LABELS)
    found = bytearray(path.read_bytes())
    told = struct.pack("<L", len(content)) * 2
    assert found.count(told) == 2
    path.write_bytes(found.replace(told, struct.pack("<2L", len(content), len(content) - 16 + size)))
    taken, said = peak(lambda: load(str(path), "test"))
    assert taken < 4 * MEGABYTE
    assert said == f"{path}: dataset: member 'images.npy' must hold {size} bytes, not 16"


@pytest.mark.parametrize("kind", ["own", "cifar10"])
def test_a_small_file_of_many_bytes(tmp_path, monkeypatch, kind):
    """What is true of its size, and too much, is refused before it is unpacked."""
    monkeypatch.setattr(own_data, "_MOST_BYTES", MEGABYTE)
    monkeypatch.setattr(cifar, "_MOST_BYTES", MEGABYTE)
    (tmp_path / "cifar10").mkdir()
    if kind == "own":
        path = archive(tmp_path / "own.npz", images=member((64, 512, 512), bytes(16 * MEGABYTE)), labels=LABELS)
        size, said = peak(lambda: load(str(path), "test"))
    else:
        path = archive(tmp_path / "cifar10" / "test.npz", jpeg=member((16 * MEGABYTE,), bytes(16 * MEGABYTE)))
        size, said = peak(lambda: load("cifar10", "test", tmp_path))
    assert path.stat().st_size < MEGABYTE / 8
    assert size < 4 * MEGABYTE
    assert said.endswith(f"must hold at most {MEGABYTE} bytes, not {16 * MEGABYTE}")


def test_a_text_that_claims_to_be_long(tmp_path):
    images, classes = member((3, 1, 1), bytes(3)), member((1 << 30,), b"", "<U999")
    path = archive(tmp_path / "own.npz", images=images, labels=LABELS, classes=classes)
    size, said = peak(lambda: load(str(path), "test"))
    assert size < 4 * MEGABYTE and "member 'classes.npy' must hold the" in said


def test_letters_that_are_none(tmp_path):
    images, classes = member((3, 1, 1), b"abc"), member((1,), b"\xff" * 4, "<U1")
    path = archive(tmp_path / "own.npz", images=images, labels=LABELS, classes=classes)
    with pytest.raises(DataError, match=r"own\.npz: classes must be names, not numbers that no letter has$"):
        load(str(path), "test")


def test_an_archive_with_a_second_end(tmp_path, monkeypatch):
    """As archives of more than 4 GB have it."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    path = archive(tmp_path / "a.npz", x=member((3,), b"abc"))
    assert b"PK\6\6" in path.read_bytes()
    assert read_npz(path, most_bytes=3)["x"].tobytes() == b"abc"
    content = bytearray(path.read_bytes())
    # The length of its directory.
    at = content.index(b"PK\6\6") + 40
    content[at : at + 8] = (1 << 60).to_bytes(8, "little")
    path.write_bytes(content)
    assert peak(lambda: read_npz(path, most_bytes=3)) [1] == "must have at most 4000 members"
    path.write_bytes(content.replace(b"PK\6\6", b"PK\6\0"))
    assert peak(lambda: read_npz(path, most_bytes=3))[1] == "must be a whole archive of arrays: its second end is missing"


def test_only_what_is_asked_for_is_read(tmp_path):
    path = archive(tmp_path / "a.npz", x=member((3,), b"abc"), y=member((1 << 40,)))
    with Npz(path, most_bytes=3) as found:
        assert (found.names, found.others) == (("x", "y"), ())
        assert found.array("x").tolist() == [97, 98, 99]
        with pytest.raises(ArchiveError, match=r"^member 'x.npy' must hold at most 0 bytes, not 3$"):
            found.array("x")


@pytest.mark.parametrize("padding", [b"\xa0", b"\x1c"])
def test_a_header_padded_with_what_is_no_space(tmp_path, padding):
    """NumPy refuses it too."""
    header = member((3,)).replace(b" \n", padding + b"\n")
    path = archive(tmp_path / "a.npz", x=header + b"abc")
    with pytest.raises(ValueError, match="Cannot parse header"), np.load(path) as found:
        found["x"]
    with pytest.raises(ArchiveError, match=r"^member 'x.npy' must have an array's header$"):
        read_npz(path, most_bytes=3)
