"""The virtual board that a file's tests talk to."""

import pytest

from boards.device import Device
from boards.virtual_board import VirtualBoard
from tests.boards.small_board import NETWORK, PLAN


@pytest.fixture(scope="module")
def board():
    with VirtualBoard(NETWORK, PLAN) as found:
        yield found


@pytest.fixture
def device(board):
    with Device.open(board.url, clock=board.seconds) as found:
        yield found
