"""The encoders of pipelines: which one a network needs."""

from hw.link.encoder import Encoder
from hw.link.levels_encoder import LevelsEncoder
from model.network import Network

__all__ = ["SortingEncoder", "encoder_of"]

SortingEncoder = Encoder | LevelsEncoder


def encoder_of(network: Network) -> SortingEncoder:
    """The encoder of a pipeline for ``network``. A folded machine has a `hw.link.scan_encoder.ScanEncoder`."""
    return (Encoder if network.input_levels == 1 else LevelsEncoder)(network=network)
