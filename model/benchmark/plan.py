"""What the suite does with each network."""

from dataclasses import dataclass

__all__ = ["Plan"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the suite does with each network.

    Parameters
    ----------
    seed : int
        Of the training.
    calibrated : int
        Training frames that conversion is calibrated on.
    tuning_epochs : int
        Passes of fine-tuning; 0 for none.
    peer_frames : int
        Test frames, the first ones, on which it is compared with the peer; 0 for no comparison.
    peer_steps : int
        Time steps that the peer may take.
    """

    seed: int = 1
    calibrated: int = 5000
    tuning_epochs: int = 4
    peer_frames: int = 1000
    peer_steps: int = 32
