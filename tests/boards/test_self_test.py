"""The self-test passes on hardware that is right, and says what is not."""

from dataclasses import replace

from boards.self_test import self_test
from sim.generators.networks import random_network
from tests.boards.small_board import IMAGES, NETWORK


def test_self_test(device):
    found = self_test(device, NETWORK, IMAGES[:3])
    assert all(check.passed for check in found), found
    assert [check.name for check in found] == ["frames", "cycles", "saturations", "potentials", "wire"]


def test_self_test_finds_what_differs(device, monkeypatch):
    """A golden model of other weights stands for a device that computes wrongly."""
    other = random_network(2)
    wrong = replace(other, layers=tuple(
        replace(la, bias=la.bias + la.theta) if la is other.output else la for la in other.layers
    ))
    monkeypatch.setattr(device, "require", lambda network: None)
    found = {check.name: check.passed for check in self_test(device, wrong, IMAGES[:3])}
    assert found["frames"] is False and found["potentials"] is False
    assert found["cycles"] is True
