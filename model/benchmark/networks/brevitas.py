"""A network trained with quantization by Brevitas: weights of 4 bits, pixels and activations of 2, exported as QCDQ."""

from pathlib import Path

from model.benchmark.networks.torch_training import fit, seeded
from model.support.dataset import Dataset

__all__ = ["train"]


def train(dataset: Dataset, path: Path, seed: int) -> None:
    """Train on ``dataset`` and write the ONNX file ``path``."""
    import torch
    from brevitas.export import export_onnx_qcdq
    from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU
    from brevitas.quant import Uint8ActPerTensorFloat
    from torch import nn, optim

    seeded(seed)
    network = nn.Sequential(
        QuantIdentity(act_quant=Uint8ActPerTensorFloat, bit_width=2, return_quant_tensor=True),
        QuantConv2d(1, 8, 5, weight_bit_width=4), QuantReLU(bit_width=2, return_quant_tensor=True), nn.MaxPool2d(2),
        QuantConv2d(8, 16, 5, weight_bit_width=4), QuantReLU(bit_width=2, return_quant_tensor=True), nn.MaxPool2d(2),
        nn.Flatten(),
        QuantLinear(256, 64, bias=True, weight_bit_width=4), QuantReLU(bit_width=2, return_quant_tensor=True),
        QuantLinear(64, 10, bias=True, weight_bit_width=4),
    )
    fit(network, dataset, optim.Adam(network.parameters(), lr=1e-3), epochs=3)
    export_onnx_qcdq(network, torch.zeros(1, 1, 28, 28), export_path=str(path))
