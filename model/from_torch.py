"""Straight from a PyTorch module: exported to ONNX on the way, and read like any other file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import onnx

from model.importers.float_network import ConversionError, FloatNetwork
from model.importers.normalization import AS_THEY_ARE, Normalization
from model.importers.onnx import import_model

if TYPE_CHECKING:
    from torch import nn

__all__ = ["from_torch"]

_OPSET = 17


def from_torch(
    module: nn.Module,
    input_shape: Sequence[int],
    *,
    name: str | None = None,
    normalization: Normalization = AS_THEY_ARE,
) -> FloatNetwork:
    """The float network of a trained module, in evaluation mode.

    Parameters
    ----------
    module : nn.Module
        Takes one tensor, ``(frames, channels, height, width)`` or ``(frames, features)``, and returns one; left as it was, each
        of its modules in training mode again where it was.
    input_shape : Sequence[int]
        Shape of a frame, ``(height, width, channels)`` as everywhere here, or ``(features,)``.
    name : str | None
        Stands for the file in messages; the class of the module by default.
    normalization : Normalization
        What the module takes in place of pixels of 0 to 1.

    Raises
    ------
    ConversionError : one line that names the module, or the node of it that does not convert
    """
    torch = _import_torch()
    name = name or type(module).__name__
    shape = tuple(input_shape)
    if len(shape) not in (1, 3) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ConversionError(f"{name}: input_shape must be (height, width, channels) or (features,), not {shape}")
    first = next(module.parameters(), torch.zeros(1))
    frame = shape if len(shape) == 3 else (1, 1, shape[0])
    dims = (shape[2], shape[0], shape[1]) if len(shape) == 3 else shape
    # Two frames, so that nothing takes the frames for an axis of size 1.
    frames = torch.zeros(2, *dims, device=first.device, dtype=first.dtype if first.is_floating_point() else torch.float32)
    trained = [(part, part.training) for part in module.modules()]
    written = io.BytesIO()
    try:
        module.eval()
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            # The exporter that needs no other package; it is the older one of the two.
            torch.onnx.export(
                module,
                (frames,),
                written,
                dynamo=False,
                opset_version=_OPSET,
                input_names=["image"],
                output_names=["scores"],
                dynamic_axes={"image": {0: "frames"}, "scores": {0: "frames"}},
            )
    except Exception as error:  # a module can raise anything when it is run, and so can the exporter
        line = " ".join((str(error).strip().splitlines() or [""])[0].split())
        raise ConversionError(f"{name}: PyTorch cannot export it to ONNX: {type(error).__name__}: {line}") from error
    finally:
        for part, training in trained:
            part.training = training
    model = onnx.load_from_string(written.getvalue())
    return import_model(model, name, layout="nchw", input_shape=frame, normalization=normalization)


def _import_torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError("from_torch must have PyTorch installed: pip install -e .[train]") from error
    return torch
