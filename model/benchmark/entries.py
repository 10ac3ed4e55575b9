"""The networks of the suite: where each comes from, and what its file does not say."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model.importers.normalization import AS_THEY_ARE, Normalization

if TYPE_CHECKING:
    from model.importers.float_network import FloatNetwork
    from model.support.dataset import Dataset

__all__ = ["ENTRIES", "MEAN", "STD", "Entry", "chosen"]

MEAN, STD = 0.1307, 0.3081
"""Of MNIST's pixels, as PyTorch's first example has them."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A network of the suite.

    Parameters
    ----------
    name : str
        Of its module in `model.benchmark.networks`, and of its files.
    title : str
        What it is, in a few words.
    packages : tuple[str, ...]
        What trains and exports it, as PyPI calls it: another version may give another network.
    normalization : Normalization
        What it takes in place of pixels of 0 to 1.
    output : str or None
        The output that it ends in, where its file has several.
    """

    name: str
    title: str
    packages: tuple[str, ...] = ("torch",)
    normalization: Normalization = AS_THEY_ARE
    output: str | None = None

    def train(self, dataset: Dataset, path: Path, seed: int) -> None:
        """Train it on ``dataset``, and write its ONNX file ``path``."""
        importlib.import_module(f"model.benchmark.networks.{self.name}").train(dataset, path, seed)

    def read(self, path: Path, dataset: Dataset) -> FloatNetwork:
        """Import its ONNX file, for frames of the shape of ``dataset``'s."""
        from model.importers.onnx import import_onnx

        return import_onnx(path, input_shape=dataset.images.shape[1:], output=self.output, normalization=self.normalization)


ENTRIES = (
    Entry(name="lenet5", title="LeNet-5, average pools"),
    Entry(
        name="meanstd",
        title="PyTorch's first example, normalized pixels",
        normalization=Normalization(mean=(MEAN,), std=(STD,)),
    ),
    Entry(name="allconv", title="all-convolutional, batch normalization"),
    Entry(name="depthwise", title="depthwise-separable, batch normalization"),
    Entry(name="vgg", title="VGG-like, batch normalization"),
    Entry(name="mlp", title="scikit-learn's MLPClassifier", packages=("scikit-learn", "skl2onnx"), output="probabilities"),
    Entry(name="keras", title="Keras' first example", packages=("keras", "tensorflow-cpu", "tf2onnx")),
    Entry(name="brevitas", title="Brevitas, 4-bit weights, 2-bit pixels and activations", packages=("torch", "brevitas")),
    Entry(name="resnet", title="ResNet, basic blocks with shortcuts, batch normalization"),
    Entry(name="unet", title="U-Net, averaged to classify, batch normalization"),
    Entry(name="mobilenet", title="MobileNetV2, inverted residuals, ReLU6"),
)
"""All of them, in the order of the tables."""


def chosen(names: str) -> tuple[Entry, ...]:
    """Those of ``names``, with commas between them, in the order of the tables.

    Raises
    ------
    ValueError
        One of the names is none of a network.
    """
    wanted = [name.strip() for name in names.split(",")]
    known = {entry.name: entry for entry in ENTRIES}
    for name in wanted:
        if name not in known:
            raise ValueError(f"networks must be of {', '.join(known)}, not {name!r}")
    return tuple(entry for entry in ENTRIES if entry.name in wanted)
