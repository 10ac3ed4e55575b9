"""The commands of the host's side, against a virtual board."""

import json

import numpy as np
from click.testing import CliRunner

from boards.host import main
from tests.boards.small_board import IMAGES, NETWORK, NEURON_LAYERS, command, expected


def test_states_command(board, tmp_path):
    net = tmp_path / "net.npz"
    NETWORK.save(net)
    data = tmp_path / "data.npz"
    np.savez(data, images=IMAGES, labels=np.zeros(len(IMAGES), int))
    common = ["states", "--port", board.url, str(net), "--dataset", str(data), "--frame", "2"]
    found = CliRunner().invoke(main, [*common, "--json"])
    assert found.exit_code == 0, found.output
    neurons = json.loads(found.stdout)["neurons"]
    assert [neuron["count"] for neuron in neurons] == list(expected(IMAGES[2])[1])
    assert "potential" in CliRunner().invoke(main, [*common, "--layer", NEURON_LAYERS[1]]).stdout
    found = CliRunner().invoke(main, [*common[:-1], "6"])
    assert (found.exit_code, found.stderr) == (2, f"error: --frame must be within 0..5 of {data}, not 6\n")
    found = CliRunner().invoke(main, [*common, "--layer", "conv9"])
    assert (found.exit_code, found.stderr) == (2, f"error: layer must be one of {', '.join(NEURON_LAYERS)}, not 'conv9'\n")


def test_commands(board):
    assert json.loads(command("identify", "--port", board.url, "--json").stdout)["network_hash"] == NETWORK.content_hash[:16]
    command("reset", "--port", board.url)
    assert json.loads(command("status", "--port", board.url, "--json").stdout)["bad_crc"] == 0
