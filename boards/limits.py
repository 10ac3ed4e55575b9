"""What a plan needs more of than it may have, before any synthesis."""

from boards.definitions import board_named
from hw.flow.area import estimate_area
from hw.flow.room import BoardRoom
from hw.flow.spare_luts import SpareLuts
from model.machine.folded_layout import Folded
from model.machine.plan import Plan
from model.machine.planner import Relief, Shortage, as_it_is
from model.network import Network
from model.support.errors import BadInputError

__all__ = ["limits", "relief", "room"]

_FULL = 0.75
"""Share of a device's LUTs up to which memories are moved into them: the fuller it is, the harder to place and route."""

_ROUTED = 0.6
"""Share of a device's LUTs that a plan with queues takes at the most, where one asks for no other number: what is as large places
and routes, and what is fuller may not."""


def limits(
    network: Network,
    *,
    max_lanes: int | None = None,
    max_luts: int | None = None,
    board: str | None = None,
    folded: bool = False,
) -> Shortage:
    """What a plan of ``network`` needs more of than these allow, by the area model; a ``folded`` one, by its memories."""
    device = board_named(board) if board else None
    if device is not None and folded:
        return lambda plan: device.short_of_folded(Folded.of(network, plan))
    if device is not None and not device.of_family.HAS_AREA_MODEL:
        raise BadInputError(f"board must be one that the area model knows, an ECP5, not {board!r} ({device.of_family.TITLE})")

    def short_of(plan: Plan) -> list[str]:
        short = []
        if max_lanes is not None and plan.lanes > max_lanes:
            short.append(f"{plan.lanes - max_lanes} lanes (needs {plan.lanes}, may have {max_lanes})")
        if max_luts is None and device is None:
            return short
        area = estimate_area(network, plan)
        if max_luts is not None and area.luts > max_luts:
            short.append(f"{area.luts - max_luts} LUTs (needs {area.luts}, may have {max_luts})")
        if device is not None:
            short += device.short_of(luts=area.luts, ram_blocks=area.ram_blocks)
        return short

    return short_of


def relief(network: Network, *, max_luts: int | None = None, board: str | None = None) -> Relief:
    """What moves memories of a plan of ``network`` into LUTs where the board's blocks do not suffice; nothing without a board."""
    device = board_named(board) if board else None
    if device is None or not device.of_family.HAS_AREA_MODEL:
        return as_it_is
    luts = int(_FULL * device.luts)
    return SpareLuts(network, ram_blocks=device.ram_blocks, luts=luts if max_luts is None else min(luts, max_luts))


def room(
    network: Network, *, max_lanes: int | None = None, max_luts: int | None = None, board: str | None = None
) -> BoardRoom | None:
    """What a plan of ``network`` with queues may take of a board, and what its parts take; None without a board that the area
    model knows."""
    device = board_named(board) if board else None
    if device is None or not device.of_family.HAS_AREA_MODEL:
        return None
    luts = int(_ROUTED * device.luts) if max_luts is None else min(max_luts, device.luts)
    return BoardRoom(network, ram_blocks=device.ram_blocks, luts=luts, lanes=max_lanes)
