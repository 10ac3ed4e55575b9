"""The suite's tables."""

from model.benchmark.measure import LayerMeasured, Measured
from model.benchmark.peer import PeerPoint, PeerResult
from model.benchmark.run import Spiking, SuiteResult
from model.benchmark.table import rows, tables


def measured(frames, accuracy, spikes):
    layers = tuple(
        LayerMeasured(layer=name, kind=kind, shape="1x1x2", spikes=spikes, accumulations=10.0, greatest_count=3)
        for name, kind in (("a", "convolution"), ("p", "maxpool"), ("b", "linear"))
    )
    return Measured(
        frames=frames,
        accuracy=accuracy,
        accuracy_quantized=accuracy,
        input_events=100.0,
        hidden_spikes=spikes,
        output_spikes=5.0,
        sent=120.0,
        neurons=50,
        accumulations=1000.0,
        saturated_events=0,
        layers=layers,
    )


def spiking(accuracy, spikes, peers):
    return Spiking(
        file="x.npz", network_hash="0", levels={"a": 2.0, "b": 12.5}, input_levels=1, measured=measured(10000, accuracy, spikes),
        beside_peer=measured(1000, accuracy, spikes) if peers else None, peers=peers,
    )


def peer(pixels, reached):
    point = PeerPoint("99%", 4, 0.97, 300.0 if pixels == "spikes" else 0.0, 200.0)
    return PeerResult(pixels, 1000, 0.98, 0.99, point if reached else None, point)


def result(**more):
    parts = {"converted": spiking(0.98, 45.0, (peer("spikes", True), peer("current", False))), "tuned": None}
    return SuiteResult(
        name="net",
        title="a network",
        file="x.onnx",
        weights=1234,
        macs=4000,
        accuracy_float=0.985,
        **parts | more,
    )


def test_tables():
    found = tables([result(tuned=spiking(0.99, 20.0, (peer("spikes", True), peer("current", True))))])
    assert found["accuracy"].splitlines()[2:] == [
        "| `net`: a network | 1,234 | 98.50 % | 98.00 % | 98.00 % | -0.50 | 99.00 % | +0.50 |"
    ]
    assert found["work"].splitlines()[2:] == [
        "| `net` | 50 | 100 | 45 | 5 | 1.000 | 1,000 | 4,000 | 0.25 |",
        "| `net`, fine-tuned | 50 | 100 | 20 | 5 | 0.500 | 1,000 | 4,000 | 0.25 |",
    ]
    assert found["levels"].splitlines()[2] == "| `net` | 1 | 2, 12.5 | 3, 3 |"
    assert found["peer"].splitlines()[2:] == [
        "| `net` | 98.00 % | 150 | 100 + 45 + 5 | 120 | 500 | 300 + 200 | 4, 99% | 200 (97.00 % at best) | 4, 99% |",
        "| `net`, fine-tuned | 99.00 % | 125 | 100 + 20 + 5 | 120 | 500 | 300 + 200 | 4, 99% | 200 | 4, 99% |",
    ]
    for table in found.values():
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_without_a_peer_there_is_no_table_of_it():
    alone = result(converted=spiking(0.98, 45.0, ()))
    assert set(tables([alone])) == {"accuracy", "work", "levels"}
    assert rows([alone]) == [("net", "98.50%", "98.00%", "150", "1,000", "4,000")]
    assert rows([result()]) == [("net", "98.50%", "98.00%", "150", "1,000", "4,000", "500 in 4", "200 in 4: 97.00 % at best")]
