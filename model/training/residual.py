"""A small residual network of frames with colours: its modules, and its ONNX file with the batch normalization folded in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from model.support.errors import BadInputError
from model.support.files import write_file

__all__ = ["Block", "Normalized", "ResidualNetwork", "begin_with", "export_residual"]

_OPSET = 17


class Normalized(nn.Module):
    """A convolution without bias and the batch normalization after it.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    window, stride : int
        Height and width of the window, and the steps between its positions. The frame is padded so that there are as many
        positions as the stride leaves room for.
    """

    def __init__(self, inputs: int, outputs: int, window: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, window, stride, (window - 1) // 2, bias=False)
        self.normalization = nn.BatchNorm2d(outputs)

    def forward(self, values: Tensor) -> Tensor:
        return self.normalization(self.convolution(values))  # type: ignore[no-any-return]

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weights and biases of the one convolution that does the same in evaluation mode."""
        norm = self.normalization
        state = norm.state_dict()
        mean, variance, scale, shift = (state[name].double() for name in ("running_mean", "running_var", "weight", "bias"))
        scale = scale / torch.sqrt(variance + norm.eps)
        weights = self.convolution.weight.detach().double() * scale[:, None, None, None]
        return weights.float(), (shift - mean * scale).float()


class Block(nn.Module):
    """Two convolutions, and a shortcut around both: their sum goes through the ReLU.

    Parameters
    ----------
    inputs, outputs : int
        Channels. Where they differ, or a stride is taken, the shortcut is a convolution of 1 x 1.
    stride : int
        Of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = Normalized(inputs, outputs, 3, stride)
        self.second = Normalized(outputs, outputs, 3, 1)
        self.shortcut = Normalized(inputs, outputs, 1, stride) if inputs != outputs or stride > 1 else None

    def forward(self, values: Tensor) -> Tensor:
        around = values if self.shortcut is None else self.shortcut(values)
        return torch.relu(self.second(torch.relu(self.first(values))) + around)


class ResidualNetwork(nn.Module):
    """A convolution, stages of residual blocks, the average of all positions, and a linear layer.

    Parameters
    ----------
    channels : int
        Of the frames.
    widths : sequence of int
        Channels of each stage; the first convolution has those of the first.
    blocks : sequence of int
        Blocks of each stage. Each stage but the first begins with a stride of two.
    classes : int
        Outputs.
    stem : tuple of int
        Window and stride of the first convolution.
    """

    def __init__(
        self, channels: int, widths: Sequence[int], blocks: Sequence[int], classes: int, stem: tuple[int, int] = (3, 1)
    ) -> None:
        super().__init__()
        self.stem = Normalized(channels, widths[0], *stem)
        self.blocks = nn.ModuleDict()
        inputs = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), start=1):
            for number in range(1, count + 1):
                self.blocks[f"stage{stage}_block{number}"] = Block(inputs, width, 2 if stage > 1 and number == 1 else 1)
                inputs = width
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Scores ``(frames, classes)`` of ``(frames, channels, height, width)``."""
        values = torch.relu(self.stem(frames))
        for block in self.blocks.values():
            values = block(values)
        return self.classifier(values.mean((2, 3)))  # type: ignore[no-any-return]


class _Graph:
    """Nodes and constants in order."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [f"{name}/out"], name=name, **attributes))
        return f"{name}/out"

    def parameters(self, name: str, weights: Tensor, bias: Tensor) -> list[str]:
        names = [f"{name}.weight", f"{name}.bias"]
        for each, values in zip(names, (weights, bias), strict=True):
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values.detach().numpy()), each))
        return names

    def convolution(self, value: str, layer: Normalized, name: str) -> str:
        parameters = self.parameters(name, *layer.folded())
        made = layer.convolution
        return self.add("Conv", [value, *parameters], name, kernel_shape=list(made.kernel_size), strides=list(made.stride),
                        pads=[made.padding[0], made.padding[1]] * 2)

    def block(self, value: str, block: Block, name: str) -> str:
        first = self.add("Relu", [self.convolution(value, block.first, f"{name}/first")], f"{name}/first/relu")
        second = self.convolution(first, block.second, f"{name}/second")
        around = value if block.shortcut is None else self.convolution(value, block.shortcut, f"{name}/shortcut")
        return self.add("Relu", [self.add("Add", [second, around], f"{name}/sum")], f"{name}/relu")


def begin_with(network: ResidualNetwork, run: Callable[[], object], path: Path) -> None:
    """Give a network the weights of one that `export_residual` wrote, where the batch normalization is folded in.

    The weights of each channel get the size that they have at first, and batch normalization what takes this back, by the
    statistics of a batch: steps of a training are then as large as at its beginning.

    Parameters
    ----------
    network : ResidualNetwork
        Of the same shape.
    run : Callable[[], object]
        Has the network go through a batch of training frames.
    path : Path
        The ONNX file.

    Raises
    ------
    BadInputError
        The file is of another shape.
    """
    kept = {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}

    def values(name: str, like: Tensor) -> Tensor:
        found = kept.get(name)
        if found is None or found.shape != tuple(like.shape):
            has = "none" if found is None else f"one of {tuple(found.shape)}"
            raise BadInputError(f"{path}: {name} must be of {tuple(like.shape)}, as the network to train, not {has}")
        return torch.tensor(found, dtype=like.dtype)

    def begin(name: str, layer: Normalized) -> None:
        convolution, norm = layer.convolution, layer.normalization
        weights, bias = values(f"{name}.weight", convolution.weight), values(f"{name}.bias", norm.bias)
        usual = convolution.weight.detach().flatten(1).norm(dim=1)
        scale = weights.flatten(1).norm(dim=1).clamp_min(1e-12) / usual

        def normalize(_: nn.Module, inputs: tuple[Tensor], __: Tensor) -> Tensor:
            found = convolution(inputs[0])
            variance, mean = torch.var_mean(found, (0, 2, 3), correction=0)
            state = {"weight": scale * torch.sqrt(variance + norm.eps), "bias": bias + scale * mean,
                     "running_mean": mean, "running_var": variance}  # fmt: skip
            norm.load_state_dict(state, strict=False)
            return found * scale[:, None, None] + bias[:, None, None]

        convolution.weight.data = (weights / scale[:, None, None, None]).contiguous(memory_format=torch.channels_last)
        handles.append(layer.register_forward_hook(normalize))

    handles: list[Any] = []
    begin("stem", network.stem)
    for label, block in network.blocks.items():
        for part in ("first", "second", "shortcut"):
            if (layer := getattr(block, part)) is not None:
                begin(f"{label}/{part}", layer)
    last = network.classifier
    last.weight.data, last.bias.data = values("classifier.weight", last.weight), values("classifier.bias", last.bias)
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()


def export_residual(network: ResidualNetwork, name: str, frame: tuple[int, int, int], path: Path) -> None:
    """Write a network as ONNX, its batch normalization folded into the convolutions. The same weights give the same bytes.

    Parameters
    ----------
    network : ResidualNetwork
        The network.
    name : str
        What the graph is called.
    frame : tuple of int
        Height, width and channels of the frames.
    path : Path
        File to write.
    """
    graph = _Graph()
    value = graph.add("Relu", [graph.convolution("image", network.stem, "stem")], "stem/relu")
    for label, block in network.blocks.items():
        value = graph.block(value, block, label)  # type: ignore[arg-type]
    value = graph.add("Flatten", [graph.add("GlobalAveragePool", [value], "average")], "flatten", axis=1)
    last, (height, width, channels) = network.classifier, frame
    graph.add("Gemm", [value, *graph.parameters("classifier", last.weight, last.bias)], "classifier", transB=1)
    graph.nodes[-1].output[0] = "scores"
    made = helper.make_graph(
        graph.nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["frames", channels, height, width])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["frames", last.out_features])],
        graph.constants,
    )
    model = helper.make_model(made, producer_name="tally", ir_version=8, opset_imports=[helper.make_opsetid("", _OPSET)])
    onnx.checker.check_model(model, full_check=True)
    write_file(path, model.SerializeToString(deterministic=True))
