"""The families, by name."""

from hw.flow.families.base import Family
from hw.flow.families.ecp5 import ECP5
from hw.flow.families.gowin import GOWIN
from hw.flow.families.ice40 import ICE40
from model.support.errors import BadInputError

__all__ = ["FAMILIES", "family_named"]

FAMILIES = {family.NAME: family for family in (ECP5, ICE40, GOWIN)}
"""The families by name."""


def family_named(name: str) -> Family:
    """The family of that name; `BadInputError` names the known ones where there is none."""
    if name not in FAMILIES:
        raise BadInputError(f"family must be one of {', '.join(FAMILIES)}, not {name!r}")
    return FAMILIES[name]
