"""Keras' first example, "Simple MNIST convnet": two convolutions with max-pools, dropout, softmax; channels last."""

import os
from pathlib import Path

from model.support.dataset import Dataset

__all__ = ["train"]


def train(dataset: Dataset, path: Path, seed: int) -> None:
    """Train on ``dataset`` and write the ONNX file ``path``."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    network = keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2),
        layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dropout(0.5), layers.Dense(10, activation="softmax"),
    ])
    network.compile(loss="sparse_categorical_crossentropy", optimizer="adam")
    network.fit(dataset.images.astype("float32") / 255, dataset.labels, batch_size=128, epochs=4, verbose=2)
    network.export(str(path), format="onnx", verbose=False)
