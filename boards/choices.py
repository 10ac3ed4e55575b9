"""What options take by default: commands show it in their help before they load anything else."""

__all__ = ["BAUD"]

BAUD = 1_000_000
"""Bits per second of the host link, where none are asked for."""
