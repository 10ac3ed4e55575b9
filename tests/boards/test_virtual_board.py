"""A virtual board ends with the program that started it."""

import socket
import subprocess
import sys
import time


def test_a_virtual_board_does_not_outlive_its_program():
    text = (
        "from boards.virtual_board import VirtualBoard; from tests.boards.small_board import NETWORK, PLAN; import os\n"
        "print(VirtualBoard(NETWORK, PLAN).port, flush=True); os._exit(1)"
    )
    port = int(subprocess.run([sys.executable, "-c", text], stdout=subprocess.PIPE, check=False).stdout)
    deadline, refused = time.monotonic() + 20, False
    while not refused and time.monotonic() < deadline:
        try:
            socket.create_connection(("localhost", port), timeout=5).close()
        except ConnectionRefusedError:
            refused = True
        time.sleep(0.1)
    assert refused
