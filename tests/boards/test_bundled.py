"""The bundled network is the paper's."""

from boards.bundled import BUNDLED
from model.network import Network


def test_the_bundled_network_is_the_papers():
    network = Network.load(BUNDLED)
    assert [str(shape) for shape in network.shapes] == ["28x28x16", "14x14x16", "14x14x8", "7x7x8", "1x1x256", "1x1x10"]
    assert {layer.weight_bits for layer in network.layers if hasattr(layer, "weight_bits")} == {8}
