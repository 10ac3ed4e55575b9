"""Tests of `model.support.cifar`."""

import hashlib
import http.server
import io
import tarfile
import threading

import numpy as np
import platformdirs
import pytest
from PIL import Image

from model.support import cifar, datasets, download
from model.support.datasets import DataError, load

RECORDS = 4
COPIES_NAME = "cifar10 (lossy JPEG copies)"


def random_frames(count, seed=3):
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2), random.integers(0, 10, count)


def archive_of(parts):
    """A compressed archive of files by name."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in parts.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def records_of(images, labels):
    pixels = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels[:, np.newaxis].astype(np.uint8), pixels], axis=1).tobytes()


def published_parts():
    """Files as in the published archive, of few records; and the frames and labels of each split."""
    images, labels = random_frames(6 * RECORDS)
    parts = {"batches.meta.txt": b"airplane\n"}
    for at, name in enumerate([*(f"data_batch_{n}.bin" for n in (1, 2, 3, 4, 5)), "test_batch.bin"]):
        chosen = slice(at * RECORDS, (at + 1) * RECORDS)
        parts[name] = records_of(images[chosen], labels[chosen])
    cut = 5 * RECORDS
    return parts, {"train": (images[:cut], labels[:cut]), "test": (images[cut:], labels[cut:])}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Say that another archive is the published one, and hide all real places of data; gives what says it."""
    monkeypatch.setattr(datasets, "__file__", str(tmp_path / "repo" / "model" / "support" / "datasets.py"))
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda app: str(tmp_path / "cache" / app))
    monkeypatch.delenv("TALLY_DATA", raising=False)

    def publish(content, base="http://127.0.0.1:9/"):
        described = cifar._Published(
            f"{base}cifar-10-binary.tar.gz", len(content), hashlib.sha256(content).hexdigest(), RECORDS
        )
        monkeypatch.setattr(cifar, "_PUBLISHED", described)
        return described

    return publish


@pytest.fixture
def serve(monkeypatch):
    """A web server that answers with the content that is set; gives its address, and what is to be set. It knows no TLS."""
    monkeypatch.setattr(download, "SCHEMES", ("http",))
    answer = {"content": b"", "asked": []}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer["asked"].append(self.path)
            self.send_response(200 if answer["content"] else 404)
            self.end_headers()
            self.wfile.write(answer["content"])

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", answer
    server.shutdown()
    server.server_close()


def jpeg_of(image, **options):
    made = io.BytesIO()
    Image.fromarray(image).save(made, "JPEG", quality=95, **options)
    return made.getvalue()


def copies_of(images, labels, /, **changes):
    """The arrays of a file of copies, some of them replaced."""
    files = [jpeg_of(image) for image in images]
    arrays = {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]),
        "labels": labels.astype(np.uint8),
        "classes": np.array(cifar.CLASSES),
    }
    return {name: array for name, array in (arrays | changes).items() if array is not None}


def write_copies(folder, split, arrays):
    path = folder / "cifar10" / f"{split}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def message(*arguments):
    with pytest.raises(DataError) as caught:
        load(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_published_archive():
    published = cifar._PUBLISHED
    assert published.url == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    assert (published.name, published.records) == ("cifar-10-binary.tar.gz", 10_000)
    assert [len(cifar._MEMBERS[split]) for split in ("train", "test")] == [5, 1]


@pytest.mark.parametrize("place", [".", "cifar10"])
def test_published(small, tmp_path, place):
    parts, frames = published_parts()
    content = archive_of(parts)
    small(content)
    folder = tmp_path / "data" / place
    folder.mkdir(parents=True)
    (folder / "cifar-10-binary.tar.gz").write_bytes(content)
    for split, (images, labels) in frames.items():
        found = load("cifar10", split, tmp_path / "data")
        assert (found.name, found.notes) == ("cifar10", ())
        assert found.images.flags.c_contiguous
        assert np.array_equal(found.images, images)
        assert np.array_equal(found.labels, labels)


def test_damaged_archives(small, tmp_path):
    parts, _ = published_parts()
    path = tmp_path / "cifar-10-binary.tar.gz"
    right = small(archive_of(parts))
    path.write_bytes(b"other")
    found = hashlib.sha256(b"other").hexdigest()
    assert message("cifar10", "test", tmp_path) == f"{path}: SHA-256 must be {right.sha256}, not {found}"
    for changed, expected in (
        ({"test_batch.bin": b"12345"}, "cifar-10-batches-bin/test_batch.bin must be a file of 12292 bytes, not 5"),
        ({"test_batch.bin": b"\x0a" * 12292}, "label 0 must be within 0..9, not 10"),
    ):
        content = archive_of(parts | changed)
        small(content)
        path.write_bytes(content)
        assert message("cifar10", "test", tmp_path) == f"{path}: {expected}"
    content = archive_of({name: part for name, part in parts.items() if name != "data_batch_3.bin"})
    small(content)
    path.write_bytes(content)
    expected = f"{path}: archive of CIFAR-10 must hold cifar-10-batches-bin/data_batch_3.bin"
    assert message("cifar10", "train", tmp_path) == expected
    cut = archive_of(parts)[:-200]
    small(cut)
    path.write_bytes(cut)
    assert message("cifar10", "test", tmp_path) == (
        f"{path}: archive of CIFAR-10 must be readable: Compressed file ended before the end-of-stream marker was reached"
    )


def test_download(small, tmp_path, serve):
    base, answer = serve
    parts, frames = published_parts()
    answer["content"] = archive_of(parts)
    small(answer["content"], base)
    for _ in range(2):
        assert np.array_equal(load("cifar10", "test").images, frames["test"][0])
    assert answer["asked"] == ["/cifar-10-binary.tar.gz"], "the second load must come from the cache"
    kept = tmp_path / "cache" / "tally" / "cifar10" / "cifar-10-binary.tar.gz"
    assert kept.read_bytes() == answer["content"]


def test_download_without_a_writable_cache(small, tmp_path, serve):
    base, answer = serve
    parts, frames = published_parts()
    answer["content"] = archive_of(parts)
    small(answer["content"], base)
    (tmp_path / "cache").write_text("a file where the folder would be")
    assert np.array_equal(load("cifar10", "test").images, frames["test"][0])


@pytest.mark.parametrize("content", [b"", b"other", b"much longer than what is published" * 1000])
def test_download_fails(small, tmp_path, serve, content):
    base, answer = serve
    right = small(b"what is published", base)
    answer["content"] = content
    wrong = hashlib.sha256(content[: right.size + 1]).hexdigest()
    reason = f"SHA-256 must be {right.sha256}, not {wrong}" if content else "Not Found"
    assert message("cifar10", "test") == (
        f"cifar-10-binary.tar.gz must be in --data-dir, TALLY_DATA, ../shared or {tmp_path}/cache/tally/cifar10, or come from "
        f"where it is published ({base}cifar-10-binary.tar.gz: {reason}): put it into a folder and name that with --data-dir"
    )
    assert not (tmp_path / "cache").exists()


def test_copies(small, tmp_path):
    images, labels = random_frames(5)
    path = write_copies(tmp_path, "test", copies_of(images, labels))
    found = load("cifar10", "test", tmp_path)
    assert found.name == COPIES_NAME
    assert found.notes == (f"{path}: images are lossy JPEG copies of CIFAR-10, not the published pixels",)
    assert np.array_equal(found.labels, labels)
    assert found.images.shape == (5, 32, 32, 3)
    assert found.images.dtype == np.uint8
    differences = np.abs(found.images.astype(int) - images)
    assert 0 < differences.max() and differences.mean() < 30
    assert found.first(2).name == COPIES_NAME
    assert found.limited(2).name == f"{COPIES_NAME} (first 2 frames)"


def test_copies_are_decoded_once(small, tmp_path, monkeypatch):
    images, labels = random_frames(5)
    write_copies(tmp_path, "test", copies_of(images, labels))
    first = load("cifar10", "test", tmp_path)
    (kept,) = (tmp_path / "cache" / "tally" / "cifar10").glob("*.npy")
    with monkeypatch.context() as patch:
        patch.setattr(cifar, "_decoded", None)
        assert np.array_equal(load("cifar10", "test", tmp_path).images, first.images)
    # Other images are other content.
    write_copies(tmp_path, "test", copies_of(images[::-1], labels))
    assert np.array_equal(load("cifar10", "test", tmp_path).images, first.images[::-1])
    kept.write_bytes(b"damaged")
    write_copies(tmp_path, "test", copies_of(images, labels))
    assert np.array_equal(load("cifar10", "test", tmp_path).images, first.images)


def test_copies_without_a_writable_cache(small, tmp_path):
    images, labels = random_frames(5)
    write_copies(tmp_path, "test", copies_of(images, labels))
    (tmp_path / "cache").write_text("a file where the folder would be")
    assert len(load("cifar10", "test", tmp_path)) == 5


def test_the_published_images_go_before_copies_of_the_same_folder(small, tmp_path, monkeypatch):
    parts, frames = published_parts()
    content = archive_of(parts)
    small(content)
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        write_copies(folder, "test", copies_of(*random_frames(5)))
    (second / "cifar-10-binary.tar.gz").write_bytes(content)
    monkeypatch.setenv("TALLY_DATA", str(second))
    assert load("cifar10", "test", first).name == COPIES_NAME
    assert load("cifar10", "test").name == "cifar10"
    # A folder that lacks a split is passed over.
    assert np.array_equal(load("cifar10", "train", first).images, frames["train"][0])


IMAGES, LABELS = random_frames(3)
LENGTH = len(copies_of(IMAGES, LABELS)["jpeg"])
RISE = f"offsets must rise from 0 to the {LENGTH} bytes of jpeg, an image between each two"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"classes": None}, "copies of CIFAR-10 must have the arrays jpeg, offsets, labels, classes: classes is missing"),
        ({"jpeg": np.zeros((2, 2), np.uint8)}, "jpeg must be bytes in one row, not uint8 of shape (2, 2)"),
        ({"jpeg": np.zeros(4)}, "jpeg must be bytes in one row, not float64 of shape (4,)"),
        ({"offsets": np.zeros(4)}, "offsets must be integers in one row, not float64 of shape (4,)"),
        ({"labels": np.zeros((3, 1), int)}, "labels must be integers in one row, not int64 of shape (3, 1)"),
        (
            {"classes": np.array(["cat", "dog"])},
            f"classes must be {', '.join(cifar.CLASSES)}, in this order",
        ),
        ({"labels": np.zeros(2, int)}, "offsets must be one more than the 2 labels, not 4"),
        ({"labels": np.zeros(0, int), "offsets": np.zeros(1, int)}, "offsets must be one more than the 0 labels, not 1"),
        ({"offsets": np.array([0, 9, 9, LENGTH])}, RISE),
        ({"offsets": np.array([1, 5, 9, LENGTH])}, RISE),
        ({"offsets": np.array([0, 5, 9, LENGTH + 1])}, RISE),
        ({"labels": np.array([9, 10, 0])}, "label 1 must be within 0..9, not 10"),
        ({"labels": np.array([9, 1, -1])}, "label 2 must be within 0..9, not -1"),
    ],
)
def test_copies_that_are_wrong(small, tmp_path, changes, expected):
    path = write_copies(tmp_path, "train", copies_of(IMAGES, LABELS, **changes))
    assert message("cifar10", "train", tmp_path) == f"{path}: {expected}"
    assert not (tmp_path / "cache").exists()


def with_image(content):
    """Copies of which the second is ``content``."""
    files = [jpeg_of(IMAGES[0]), content, jpeg_of(IMAGES[2])]
    offsets = np.cumsum([0, *map(len, files)])
    return copies_of(IMAGES, LABELS, jpeg=np.frombuffer(b"".join(files), np.uint8), offsets=offsets)


def png_of(image):
    made = io.BytesIO()
    Image.fromarray(image).save(made, "PNG")
    return made.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (jpeg_of(IMAGES[1][:16]), "must be of (height, width, channels) (32, 32, 3), not (16, 32, 3)"),
        (jpeg_of(IMAGES[1][..., 0]), "must be of (height, width, channels) (32, 32, 3), not (32, 32, 1)"),
    ],
)
def test_copies_of_which_one_is_no_image_of_the_kind(small, tmp_path, content, expected):
    path = write_copies(tmp_path, "test", with_image(content))
    assert message("cifar10", "test", tmp_path) == f"{path}: image 1 {expected}"
    assert list((tmp_path / "cache" / "tally" / "cifar10").glob("*.npy")) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\0" * 100, "cannot identify image"),
        (png_of(IMAGES[1]), "cannot identify image"),
        (jpeg_of(IMAGES[1])[:-60], "image file is truncated"),
    ],
)
def test_copies_of_which_one_is_no_jpeg_file(small, tmp_path, content, reason):
    path = write_copies(tmp_path, "test", with_image(content))
    assert message("cifar10", "test", tmp_path).startswith(f"{path}: image 1 must be a whole JPEG file: {reason}")


def test_copies_that_are_no_archive(small, tmp_path):
    path = write_copies(tmp_path, "test", copies_of(IMAGES, LABELS))
    path.write_bytes(b"PK\x03\x04 and no more")
    assert message("cifar10", "test", tmp_path) == (
        f"{path}: copies of CIFAR-10 must be a readable .npz file: must be a whole archive of arrays: its end is missing"
    )
