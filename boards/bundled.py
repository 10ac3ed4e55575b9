"""The bundled networks, and which of them a board is built with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from model.machine.named_plans import FOLDED
from model.network import Network
from model.support.errors import NetworkError

if TYPE_CHECKING:
    # A board's definition knows its family's clocks, which takes Amaranth; what talks to a board does without.
    from boards.definitions import Board
    from boards.device import Device

__all__ = ["BUNDLED", "chosen_for", "network_on"]

BUNDLED = Path(__file__).parent.parent / "model" / "zoo" / "mnist-fast.npz"
"""The network that is built by default."""


def chosen_for(board: Board, net: Path | None, plan: str | None) -> tuple[Path, str]:
    """Network file and plan for a board, where one does not ask for others: the bundled ones that suit it."""
    bundled = BUNDLED.with_name(f"{board.network}.npz")
    net = net or bundled
    if plan is None:
        own = board.plan if board.plan == FOLDED or net.resolve() == bundled.resolve() else "default"
        plan = str(BUNDLED.with_name(own)) if own.endswith(".json") else own
    return net, plan


def network_on(device: Device, net: Path | None) -> Network:
    """The network on a device.

    Parameters
    ----------
    device : Device
        The device.
    net : Path or None
        The network's file; without one, it must be a bundled one.

    Raises
    ------
    NetworkError
        If the file is no network, or what is on the device is no bundled network.
    DeviceError
        If the network in the file is not the one on the device.
    """
    if net is None:
        bundled = (Network.load(path) for path in sorted(BUNDLED.parent.glob("*.npz")))
        known = device.identity.network_hash
        network = next((network for network in bundled if network.content_hash.startswith(known)), None)
        if network is None:
            raise NetworkError(f"NET must be given: {known}, which is on the device, is no bundled network")
    else:
        network = Network.load(net)
    device.require(network)
    return network
