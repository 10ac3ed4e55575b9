"""What options choose from, and take by default: commands show it in their help before they load anything else."""

from pathlib import Path
from typing import Literal

__all__ = ["DIGITS", "FIRINGS", "LAYOUTS", "PAPER_SGD", "ZOO", "Split"]

FIRINGS = ("immediate", "deferred")
"""When a network's neurons compare: at every update, or at a flush."""

LAYOUTS = ("nchw", "nhwc")
"""Channels first, and channels last."""

DIGITS = ("mnist", "digits5k")
"""The names that `model.support.datasets.load` knows of handwritten digits, frames of 28 x 28 x 1."""

Split = Literal["train", "test"]

ZOO = Path(__file__).parents[1] / "zoo"
"""Folder of the bundled networks."""

PAPER_SGD = ZOO / "paper" / "paper-sgd.onnx"
"""The network that the paper's own rows are measured on."""
