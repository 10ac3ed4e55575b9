"""A folder of images becomes a data set."""

import contextlib
import logging
import re
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from model.images import main
from model.support import image_folder
from model.support.dataset import DataError
from model.support.datasets import load
from model.support.image_folder import find_images

RNG = np.random.default_rng(1)


def picture(path, size=(40, 30), mode="RGB", **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8), mode).save(path, **more)


def made(folder, *options):
    out = folder.parent / "data.npz"
    found = CliRunner().invoke(main, [str(folder), "--out", str(out), *options])
    assert found.exit_code == 0, found.output
    return out, (found.stderr + found.stdout).replace(str(folder), "FOLDER").replace(str(out), "OUT")


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "pets"
    for number in range(10):
        picture(found / "cat" / f"{number}.png")
        picture(found / "dog" / "more" / f"{number}.JPG", size=(25, 50))
    (found / "cat" / "notes.txt").write_text("no image")
    (found / ".hidden").mkdir()
    return found


def test_a_folder_of_two_classes(folder):
    out, said = made(folder, "--size", "8")
    assert said == (
        "note: FOLDER: 1 files are no images by their names, and are passed over\n"
        "OUT: 16 train and 4 test frames of 8 x 8 x 3; 2 classes: cat, dog\n"
    )
    train, test = load(str(out), "train"), load(str(out), "test")
    assert (train.images.shape, test.images.shape, train.classes) == ((16, 8, 8, 3), (4, 8, 8, 3), ("cat", "dog"))
    assert (np.bincount(train.labels).tolist(), np.bincount(test.labels).tolist()) == ([8, 8], [2, 2])
    # Mixed, so that the first frames are of both classes.
    assert 0 < train.labels[:8].sum() < 8
    # What is there decides, and no chance: not the names either.
    (folder / "cat" / "0.png").rename(folder / "cat" / "z.png")
    before = out.read_bytes()
    assert made(folder, "--size", "8")[0].read_bytes() == before
    assert "of 8 x 12 x 1;" in made(folder, "--size", "8", "--width", "12", "--grey")[1]
    assert "10 train and 10 test" in made(folder, "--test-share", "0.5")[1]


def test_copies_of_an_image_are_on_one_side(folder):
    for path in list((folder / "cat").glob("*.png")):
        path.with_name(f"copy of {path.name}").write_bytes(path.read_bytes())
    out, said = made(folder, "--size", "8")
    assert ": 24 train and 6 test" in said
    train, test = ({frame.tobytes() for frame in load(str(out), split).images} for split in ("train", "test"))
    assert not train & test


def test_train_and_test_are_taken_as_they_are(folder, tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    folder.rename(whole / "train")
    for name in ("cat", "dog"):
        picture(whole / "test" / name / "one.bmp")
    assert ": 20 train and 2 test frames of 32 x 32 x 3" in made(whole)[1]
    (whole / "test" / "cat").rename(whole / "test" / "cow")
    found = CliRunner().invoke(main, [str(whole), "--out", str(tmp_path / "o.npz")])
    assert (found.exit_code, found.output) == (
        2, f"error: {whole}: train and test must have the same classes, but one has no 'cat'\n",
    )  # fmt: skip


def test_pixels(tmp_path):
    """The middle, upright; what is transparent is black; grey is what people see as bright."""
    folder = tmp_path / "pixels"
    pixels = np.zeros((6, 10, 3), np.uint8)
    pixels[:, :2], pixels[:, 8:] = (255, 0, 0), (0, 255, 0)
    pixels[:3, 2:8], pixels[3:, 2:8] = (10, 20, 30), (200, 100, 50)
    for name in ("a", "b"):
        for mark in (0, 1):
            pixels[0, 0] = mark
            image = Image.fromarray(pixels)
            (folder / name).mkdir(parents=True, exist_ok=True)
            exif = Image.Exif()
            exif[0x0112] = 3  # Turned upside down.
            image.rotate(180).save(folder / name / f"{mark}.png", exif=exif)
    images = load(str(made(folder, "--size", "6")[0]), "train").images
    for image in images:
        # Lanczos rings at edges only where it scales; here it does not.
        assert (image[:3] == (10, 20, 30)).all() and (image[3:] == (200, 100, 50)).all()
    grey = load(str(made(folder, "--size", "6", "--grey")[0]), "train").images
    assert set(grey.ravel().tolist()) == {18, 124}
    clear = np.full((6, 6, 4), 255, np.uint8)
    clear[:, :3, 3] = 0
    for name in ("a", "b"):
        for mark in (0, 1):
            clear[0, 5] = 255 - mark
            Image.fromarray(clear).save(folder / name / f"{mark}.png")
    images = load(str(made(folder, "--size", "6")[0]), "train").images
    assert (images[:, :, :3] == 0).all() and (images[:, :, 3:] >= 253).all()


def test_refusals(folder, tmp_path):
    (folder / "cat" / "notes.txt").unlink()

    def refused(where, *options):
        out = tmp_path / "none.npz"
        found = CliRunner().invoke(main, [str(where), "--out", str(out), *options])
        assert (found.exit_code, out.exists(), found.output.count("\n")) == (2, False, 1), found.output
        return found.output

    assert refused(tmp_path / "no") == f"error: {tmp_path / 'no'}: must be a folder with a folder of images for each class\n"
    assert refused(folder / "cat") == (
        f"error: {folder / 'cat'}: folders in it must be two or more, one for each class, not 0\n"
    )
    (folder / "empty").mkdir()
    assert refused(folder).startswith(f"error: {folder / 'empty'}: must have images (.bmp, .gif, ")
    picture(folder / "empty" / "1.png")
    message = "images must be two different ones or more, for training and for testing"
    assert refused(folder, "--size", "8").endswith(f"{folder / 'empty'}: {message}\n")
    whole = (folder / "empty" / "1.png").read_bytes()
    for content in (b"", b"text", whole[:100], whole[:-30]):
        (folder / "empty" / "2.png").write_bytes(content)
        found = refused(folder, "--size", "8")
        assert re.search(rf"error: {re.escape(str(folder / 'empty' / '2.png'))}: must be an image that can be read: .", found)
    # It says that it is huge.
    parts = ((b"IHDR", struct.pack(">2L5B", 60000, 60000, 8, 0, 0, 0, 0)), (b"IDAT", b""))
    chunks = [struct.pack(">L", len(part)) + name + part + struct.pack(">L", zlib.crc32(name + part)) for name, part in parts]
    huge = b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    (folder / "empty" / "2.png").write_bytes(huge)
    assert "2.png: must be an image that can be read: Image size (3600000000 pixels) exceeds limit" in refused(folder)


def test_a_part_of_an_image_that_claims_to_be_huge(folder):
    """A PNG of a few hundred bytes whose pixels claim to be 2.4 GB of the file."""
    picture(folder / "cat" / "1.png", size=(7, 6))
    whole = (folder / "cat" / "1.png").read_bytes()
    at = whole.index(b"IDAT") - 4
    (folder / "cat" / "1.png").write_bytes(whole[:at] + struct.pack(">L", 0x8F494441) + whole[at + 4 :])
    files = [each for each in find_images(folder).files if each.path.name == "1.png"]
    tracemalloc.start()
    try:
        with contextlib.suppress(DataError):
            find_images(folder).splits(8, 8, 1, test_share=0.5, files=files)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("mode", "side"), [("L", 10), ("RGB", 10), ("RGBA", 5)])
def test_an_image_may_take_so_much_memory(folder, monkeypatch, mode, side):
    monkeypatch.setattr(image_folder, "_MOST_BYTES", 400)
    files = [each for each in find_images(folder).files if each.path.name == "1.png"]
    picture(folder / "cat" / "1.png", size=(side, side), mode=mode)
    with pytest.raises(DataError, match="two different ones"):
        find_images(folder).splits(4, 4, 1, test_share=0.5, files=files)
    picture(folder / "cat" / "1.png", size=(side, side + 1), mode=mode)
    found = rf"1.png: must be an image that can be read: at most {side * side} pixels of mode {mode}, not {side} x {side + 1}$"
    with pytest.raises(DataError, match=found):
        find_images(folder).splits(4, 4, 1, test_share=0.5, files=files)


def test_what_pillow_makes_do_with_is_told_nobody(folder, recwarn):
    """Damage that leaves an image, or none, is no warning beside the one line."""
    rng = np.random.default_rng(0)
    (folder / "cat" / "notes.txt").unlink()
    picture(folder / "cat" / "1.tif")
    whole = (folder / "cat" / "1.tif").read_bytes()
    codes = set()
    for _ in range(20):
        damaged = bytearray(whole)
        # In its directory, which says what is where.
        damaged[int(rng.integers(8, 140))] ^= 0xFF
        (folder / "cat" / "1.tif").write_bytes(damaged)
        found = CliRunner().invoke(main, [str(folder), "--out", str(folder.parent / "data.npz"), "--size", "8"])
        assert found.stderr.count("\n") == (1 if found.exit_code else 0)
        codes.add(found.exit_code)
    assert codes == {0, 2} and list(recwarn) == []
    assert logging.getLogger("PIL").handlers


def test_what_a_file_holds_decides_not_its_name(folder, tmp_path, monkeypatch):
    """PostScript, for which Pillow would start an interpreter, in a file that is called an image."""
    (tmp_path / "bin").mkdir()
    interpreter = tmp_path / "bin" / "gs"
    interpreter.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    interpreter.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (folder / "cat" / "0.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    found = CliRunner().invoke(main, [str(folder), "--out", str(tmp_path / "data.npz")])
    assert found.exit_code == 2
    assert found.stderr.splitlines()[-1].startswith(f"error: {folder}/cat/0.png: must be an image that can be read")
    assert not (tmp_path / "started").exists()
