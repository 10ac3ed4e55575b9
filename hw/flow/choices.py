"""What options choose from, and take by default: commands show it in their help before they load anything else."""

from pathlib import Path

__all__ = ["AREA", "FAMILY_NAMES"]

FAMILY_NAMES = ("ecp5", "ice40", "gowin")
"""The names of `hw.flow.families.registry.FAMILIES`."""

AREA = Path(__file__).parent / "area.json"
"""The designs that were measured, and what was fitted to them."""
