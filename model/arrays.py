"""The array types that signatures name."""

import numpy as np
import numpy.typing as npt

__all__ = ["Bools", "Floats", "Images", "Ints", "Words"]

Ints = npt.NDArray[np.int64]
"""Potentials, counts, cycles, labels: whatever is computed with."""

Bools = npt.NDArray[np.bool_]
"""What is true of each of them."""

Words = npt.NDArray[np.int32]
"""Weights and biases, as a network keeps them."""

Floats = npt.NDArray[np.float64]
"""What is measured, and what belongs to a float network."""

Images = npt.NDArray[np.uint8]
"""Frames of pixels, shape ``(frames, height, width, channels)``, or one of them."""
