"""What is built where nothing else is asked for."""

from pathlib import Path

import pytest

from boards.bundled import BUNDLED, chosen_for
from boards.definitions import BOARDS, board_named
from model.machine.named_plans import load_plan
from model.network import Network


@pytest.mark.parametrize("name", ["mnist-paper", "mnist-fast"])
def test_the_bundled_networks_are_the_papers(name):
    network = Network.load(BUNDLED.with_name(f"{name}.npz"))
    assert [str(shape) for shape in network.shapes] == ["28x28x16", "14x14x16", "14x14x8", "7x7x8", "1x1x256", "1x1x10"]
    assert {layer.weight_bits for layer in network.layers if hasattr(layer, "weight_bits")} == {8}


@pytest.mark.parametrize("name", BOARDS)
def test_each_board_has_a_network_and_a_plan_for_it(name):
    net, plan = chosen_for(board_named(name), None, None)
    assert load_plan(Network.load(net), plan).name == Path(plan).stem


def test_what_is_asked_for_comes_first():
    board = board_named("ulx3s-85f")
    assert chosen_for(board, None, None) == (BUNDLED, str(BUNDLED.with_name("mnist-fast-22.json")))
    assert chosen_for(board, None, "fast") == (BUNDLED, "fast")
    assert chosen_for(board, BUNDLED, None) == chosen_for(board, None, None)
    assert chosen_for(board, BUNDLED.with_name("mnist-small.npz"), None)[1] == "default"
    assert chosen_for(board, Path("net.npz"), None) == (Path("net.npz"), "default")
    assert chosen_for(board_named("icebreaker"), Path("net.npz"), None) == (Path("net.npz"), "folded")
