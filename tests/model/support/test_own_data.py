"""The user's own files: what can only mean one thing is read as that, and said; what could mean several is refused."""

import re

import numpy as np
import pytest

from model.support.dataset import DataError, Dataset
from model.support.datasets import load

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 255, (6, 4, 5), dtype=np.uint8)
IMAGES[0, 0, :2] = 0, 254
LABELS = np.array([0, 1, 2, 2, 1, 0])


def read(tmp_path, split="train", **arrays):
    """What is read, and its notes without the file's name."""
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    found = load(str(path), split)
    return found, [note.removeprefix(f"{path}: ") for note in found.notes]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("labels", "notes"),
    [
        (LABELS, []),
        (LABELS.astype(np.uint8), []),
        (LABELS.astype(np.float32), []),
        (LABELS[:, np.newaxis], ["labels of shape (6, 1) are taken as one per frame"]),
        (LABELS[np.newaxis].astype(float), ["labels of shape (1, 6) are taken as one per frame"]),
        (np.eye(3)[LABELS], ["labels of shape (6, 3) are taken as one-hot"]),
        (np.eye(3, dtype=np.float16)[LABELS], ["labels of shape (6, 3) are taken as one-hot"]),
        (np.eye(3, dtype=bool)[LABELS], ["labels of shape (6, 3) are taken as one-hot"]),
    ],
)
def test_labels(tmp_path, labels, notes):
    found, told = read(tmp_path, images=IMAGES, labels=labels)
    assert (found.labels.tolist(), told) == (LABELS.tolist(), notes)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS + 0.5, "labels must be whole numbers, not 0.5"),
        (np.where(LABELS == 2, np.nan, LABELS), "labels must be whole numbers, not nan"),
        (np.where(LABELS == 2, np.inf, LABELS), "labels must be whole numbers, not inf"),
        (LABELS + 2.0**40, "labels must be within 0..2147483647, not 1.09951e+12..1.09951e+12"),
        (LABELS.astype(str), "labels must be numbers, not of type <U21"),
        (2 * np.eye(3)[LABELS], "labels must be of shape (frames,) or one-hot, (frames, classes), not (6, 3)"),
        (np.zeros((6, 3)), "labels must be of shape (frames,) or one-hot, (frames, classes), not (6, 3)"),
        (LABELS[:5], "labels must be one for each of the 6 images, not 5"),
        (LABELS - 1, "labels must be 0 or more, not -1"),
    ],
)
def test_labels_that_are_none(tmp_path, labels, message):
    with pytest.raises(DataError, match=f"own.npz: {re.escape(message)}$"):
        read(tmp_path, images=IMAGES, labels=labels)


ONE_BIT = (IMAGES > 99).astype(np.uint8)


@pytest.mark.parametrize(
    ("images", "expected", "notes"),
    [
        (IMAGES, IMAGES, []),
        (IMAGES % 16, IMAGES % 16, []),
        (IMAGES.astype(np.int64), IMAGES, ["pixels are of type int64 within 0..254: 255 is taken as full scale"]),
        (IMAGES.astype(np.float32), IMAGES, ["pixels are of type float32 within 0..254: 255 is taken as full scale"]),
        (IMAGES / 255, IMAGES, ["pixels are of type float64 within 0..0.996078: 1.0 is taken as full scale"]),
        (ONE_BIT, ONE_BIT * 255, ["pixels are 0 or 1: 1 is taken as full scale"]),
        (ONE_BIT.astype(np.int16), ONE_BIT * 255, ["pixels are 0 or 1: 1 is taken as full scale"]),
        (ONE_BIT.astype(bool), ONE_BIT * 255, ["pixels are of type bool: True is taken as full scale"]),
        (ONE_BIT.astype(np.float16), ONE_BIT * 255, ["pixels are of type float16 within 0..1: 1.0 is taken as full scale"]),
    ],
)
def test_full_scale(tmp_path, images, expected, notes):
    assert (IMAGES.min(), IMAGES.max()) == (0, 254)
    found, told = read(tmp_path, images=images, labels=LABELS)
    assert found.images.dtype == np.uint8
    assert (found.images[..., 0] == expected).all()
    assert told == notes


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES.astype(np.uint16) * 16, "images must be within 0..255, not 0..4064"),
        (
            IMAGES * 1.0 + 0.5,
            "images of type float64 must be within 0..1, or whole numbers within 0..255, not 0.5..254.5 with 0.5 among them; "
            "round them",
        ),
        (
            IMAGES / 254 - 1e-7,
            "images of type float64 must be within 0..1, not -1e-07..1: resampling overshoots; clip them to 0..1",
        ),
        (
            IMAGES / 254 * 1.0001,
            "images of type float64 must be within 0..1, not 0..1.0001: resampling overshoots; clip them to 0..1",
        ),
        (IMAGES / 100, "images of type float64 must be within 0..1, or whole numbers within 0..255, not 0..2.54"),
        (IMAGES.astype(float) - 1, "images must be 0 or more, not -1..253; give pixels as they are before they are normalized"),
        (np.where(IMAGES == 254, np.nan, IMAGES), "images must be finite numbers"),
        (IMAGES * 1j, "images must be numbers, not of type complex128"),
    ],
)
def test_pixels_that_are_none(tmp_path, images, message):
    with pytest.raises(DataError, match=f"own.npz: {re.escape(message)}$"):
        read(tmp_path, images=images, labels=LABELS)


def test_names(tmp_path):
    found, told = read(tmp_path, X=IMAGES, Y=LABELS)
    assert (found.labels.tolist(), told) == (LABELS.tolist(), ["arrays are X and Y"])
    both = {"x_train": IMAGES[:4], "y_train": LABELS[:4], "x_test": IMAGES[4:], "y_test": LABELS[4:]}
    assert [len(read(tmp_path, split, **both)[0]) for split in ("train", "test")] == [4, 2]
    one, told = read(tmp_path, "test", train_images=IMAGES, train_labels=LABELS)
    assert (len(one), told) == (6, ["arrays are train_images and train_labels"])
    vectors, told = read(tmp_path, images=IMAGES.reshape(6, 20), labels=LABELS)
    assert (vectors.images.shape, told) == ((6, 1, 1, 20), [])


def test_the_exact_name_comes_before_others_that_are_alike(tmp_path):
    for order in (("labels", "LABELS", "Labels"), ("LABELS", "Labels", "labels")):
        arrays = {name: LABELS if name == "labels" else 1 - LABELS % 2 for name in order}
        found, notes = read(tmp_path, images=IMAGES, **arrays)
        assert (found.labels.tolist(), notes) == (LABELS.tolist(), [])
    with pytest.raises(DataError) as caught:
        read(tmp_path, images=IMAGES, LABELS=LABELS, Labels=LABELS)
    assert str(caught.value) == f"{tmp_path / 'own.npz'}: array 'labels' must be there once, not as 'LABELS' and 'Labels'"
    found, _ = read(tmp_path, images=IMAGES, labels=LABELS, Other=LABELS, OTHER=LABELS)
    assert found.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("names", "split", "taken", "notes"),
    [
        ("x y x_test y_test", "test", "x_test", ["arrays are x_test and y_test, not x and y"]),
        ("x y x_test y_test", "train", "x", ["arrays are x and y, not x_test and y_test"]),
        ("images labels test_images test_labels", "test", "test_images",
         ["arrays are test_images and test_labels, not images and labels"]),
        ("images labels test_images test_labels", "train", "images",
         ["arrays are images and labels, not test_images and test_labels"]),
        ("images labels x y", "test", "images", ["arrays are images and labels, not x and y"]),
        ("x_train y_train x_test y_test", "test", "x_test", ["arrays are x_test and y_test"]),
        ("x_train y_train x_test y_test", "train", "x_train", ["arrays are x_train and y_train"]),
    ],
)
def test_the_names_of_the_split_come_first(tmp_path, names, split, taken, notes):
    names = names.split()
    arrays = {name: LABELS if index % 2 else np.full_like(IMAGES, 10 + index) for index, name in enumerate(names)}
    found, told = read(tmp_path, split, **arrays)
    assert (set(found.images.flat), told) == ({10 + names.index(taken)}, notes)


def data(*shape):
    return Dataset("own", RNG.integers(52, 256, (6, *shape), dtype=np.uint8), LABELS)


@pytest.mark.parametrize(
    ("own", "wanted", "axes", "how"),
    [
        ((4, 5, 1), (4, 5, 1), (0, 1, 2, 3), None),
        ((1, 1, 1), (1, 1, 1), (0, 1, 2, 3), None),
        ((3, 3, 4), (3, 3, 4), (0, 1, 2, 3), None),
        ((3, 4, 5), (4, 5, 3), (0, 2, 3, 1), "with the channels first"),
        ((1, 4, 5), (4, 5, 1), (0, 2, 3, 1), "with the channels first"),
        ((4, 5, 1), (1, 1, 20), (0, 1, 2, 3), "row by row"),
        ((1, 4, 5), (1, 1, 20), (0, 1, 2, 3), "row by row"),
        ((1, 1, 20), (4, 5, 1), (0, 1, 2, 3), "row by row"),
        ((1, 1, 20), (20, 1, 1), (0, 1, 2, 3), "row by row"),
    ],
)
def test_frames_take_the_networks_shape(own, wanted, axes, how):
    given = data(*own)
    found = given.fitted(wanted, classes=3, threshold=51)
    assert found.images.shape == (6, *wanted)
    assert (found.images == given.images.transpose(axes).reshape(6, *wanted)).all()
    assert found.notes == ((f"own: frames of shape {own} are taken {how}, as {wanted}",) if how else ())


def test_frames_that_fit_two_ways_are_said():
    given = data(3, 3, 3)
    found = given.fitted((3, 3, 3), classes=3, threshold=51)
    assert (found.images == given.images).all()
    assert found.notes == ("own: frames of shape (3, 3, 3) fit with the channels first and last: taken with the channels last",)


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        # Channels of a vector: (y, x, channel) or (channel, y, x).
        ((4, 5, 3), (1, 1, 60)),
        ((1, 1, 60), (4, 5, 3)),
        # Not what was meant, though the number is right.
        ((4, 5, 1), (5, 4, 1)),
        ((4, 5, 1), (4, 1, 5)),
        ((4, 5, 1), (2, 10, 1)),
        ((4, 5, 1), (4, 6, 1)),
    ],
)
def test_frames_of_another_shape(own, wanted):
    message = f"frames of own must have the network's input shape {wanted}, not {own}"
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        data(*own).fitted(wanted, classes=3, threshold=51)


def test_signals_with_the_channels_first():
    """Three axes are frames of one channel; a network of signals takes four, of height 1."""
    message = (
        "frames of own must have the network's input shape (1, 16, 3), not (3, 16, 1); give signals as (frames, 1, length, "
        "channels), not as (frames, channels, length)"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        data(3, 16, 1).fitted((1, 16, 3), classes=3, threshold=51)
    assert data(1, 16, 3).fitted((1, 16, 3), classes=3, threshold=51).images.shape == (6, 1, 16, 3)


def test_labels_beyond_the_classes():
    given = data(4, 5, 1)
    given.fitted((4, 5, 1), classes=3, threshold=51)
    with pytest.raises(DataError, match=r"^own: labels must be within 0\.\.1, not 0\.\.2$"):
        given.fitted((4, 5, 1), classes=2, threshold=51)
    from_1 = Dataset("own", given.images, LABELS + 1)
    with pytest.raises(DataError, match=r"^own: labels must be within 0\.\.2, not 1\.\.3; they count from 1: subtract 1$"):
        from_1.fitted((4, 5, 1), classes=3, threshold=51)


def test_dark_frames():
    images = np.full((6, 4, 5, 1), 51, np.uint8)
    message = (
        "own: some pixels must be greater than 51 (of full scale 255), so that something fires, but the largest of 6 frames is "
        "51; scale the frames to 0..255"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        Dataset("own", images, LABELS).fitted((4, 5, 1), classes=3, threshold=51)
    images[2, 0, 0] = 52
    found = Dataset("own", images, LABELS).fitted((4, 5, 1), classes=3, threshold=51)
    assert found.notes == ("own: in 5 of 6 frames no pixel is greater than 51: nothing fires there",)


def test_names_of_classes(tmp_path):
    found, _ = read(tmp_path, images=IMAGES, labels=LABELS, classes=np.array(["cat", "dog  of mine", "frog"]))
    assert found.classes == ("cat", "dog of mine", "frog") == found.limited(2).classes
    # A number of classes is no name.
    for other in (np.array(3), np.arange(3)):
        assert read(tmp_path, images=IMAGES, labels=LABELS, classes=other)[0].classes == ()
    path = tmp_path / "own.npz"
    for names, message in (
        (["cat", "dog"], "labels must be within 0..1, as its names of classes, not 2"),
        (["cat", "cat", "dog"], "classes must be names that differ, not 'cat', 'cat', 'dog'"),
        (["cat", " ", "dog"], "classes must be names that differ, not 'cat', '', 'dog'"),
    ):
        with pytest.raises(DataError, match=f"^{re.escape(f'{path}: {message}')}$"):
            read(tmp_path, images=IMAGES, labels=LABELS, classes=np.array(names))
