"""What becomes of each operator of an ONNX file, and what could be done about the others."""

from functools import cache

import onnx

from model.importers.errors import printable

__all__ = ["PASSING", "SUPPORTED", "is_supported", "refusal"]

SUPPORTED = {
    "Conv": "convolution",
    "ConvTranspose": "transposed convolution",
    "Upsample": "transposed convolution of ones, with the convolution after it",
    "Resize": "transposed convolution of ones, with the convolution after it",
    "Gemm": "linear layer",
    "MatMul": "linear layer, with the Add after it",
    "BatchNormalization": "folded into the layer before it, or after it",
    "Add": "constant: folded into the layer before it, or after it; branches: inputs of a layer",
    "Sub": "constant: folded into the layer before it, or after it; branches: inputs of a layer",
    "Sum": "branches: inputs of a layer",
    "Concat": "branches: inputs of a layer, each with its part of the channels",
    "Mul": "constant: folded into the layer before it, or after it",
    "Div": "constant: folded into the layer before it, or after it",
    "Relu": "activation of the layer before it",
    "Clip": "activation of the layer before it, where it is a ReLU",
    "Max": "of 0: activation of the layer before it",
    "Min": "of a number: end of the activation of the layer before it",
    "LeakyRelu": "of slope 0: activation of the layer before it",
    "PRelu": "of slopes 0: activation of the layer before it",
    "MaxPool": "max-pooling on counts",
    "GlobalMaxPool": "max-pooling on counts",
    "AveragePool": "folded into the layer after it, or before it",
    "GlobalAveragePool": "folded into the layer after it, or before it",
    "ReduceMean": "folded into the layer after it, or before it",
    "Pad": "padding of the layer after it",
    "Flatten": "change of address",
    "Reshape": "change of address",
    "Squeeze": "change of address",
    "Unsqueeze": "change of address",
    "Transpose": "change of address",
    "Dropout": "nothing in inference",
    "Identity": "nothing",
    "Cast": "nothing, between float types",
    "Softmax": "nothing: does not change the arg-max",
    "LogSoftmax": "nothing: does not change the arg-max",
    "Sigmoid": "nothing: does not change the arg-max",
    "Tanh": "nothing: does not change the arg-max",
    "QuantizeLinear": "levels of the layer before it",
    "DequantizeLinear": "nothing: a count stands for its level",
    "Quant": "levels of the layer before it",
    "IntQuant": "levels of the layer before it",
    "Trunc": "levels of the layer before it",
    "BipolarQuant": "constant",
    "QLinearConv": "convolution with levels",
    "QLinearMatMul": "linear layer with levels",
    "QGemm": "linear layer with levels",
    "QLinearAveragePool": "convolution with levels that averages",
    "QLinearGlobalAveragePool": "convolution with levels that averages",
    "QLinearAdd": "branches: inputs of a layer with levels",
    "QLinearConcat": "branches: inputs of a layer with levels, each with its part of the channels",
}
"""What becomes of each operator."""

_ONNX = ("", "ai.onnx")
_MICROSOFT = ("com.microsoft",)
_QONNX = ("qonnx.custom_op.general", "onnx.brevitas")
_DOMAINS = {
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), (*_ONNX, *_MICROSOFT)),
    **dict.fromkeys(("Quant", "IntQuant", "Trunc", "BipolarQuant"), _QONNX),
    **dict.fromkeys(
        ("QGemm", "QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearAdd", "QLinearConcat"), _MICROSOFT
    ),
}
"""Whose each operator is that is not ONNX's own."""


def is_supported(operator: str, domain: str) -> bool:
    """Whether it is an operator of `SUPPORTED`, of the domain that it has there."""
    return operator in SUPPORTED and domain in _DOMAINS.get(operator, _ONNX)


PASSING = (
    *("Identity", "Dropout", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose"),
    *("Softmax", "LogSoftmax", "Sigmoid", "Tanh"),
)
"""What may stand after a final Softmax, Sigmoid or Tanh."""

_QUANTIZED = (
    *("ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"),
    *("QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"),
)
_QUANTIZED_DOMAINS = ("qonnx.", "finn.", "onnx.brevitas")

_ACTIVATIONS = (
    *("HardSigmoid", "Tanh", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Softplus", "Softsign"),
    *("HardSwish", "Swish", "Mish", "ThresholdedRelu"),
)
_NO_RECURRENCE = "recurrent layers have no event-driven form here: use convolutions or linear layers over a frame"
_NO_ATTENTION = "products of activations have no event-driven form here: use convolutions or linear layers"
_JOINED = "branches are joined by Add, Sub, Sum or Concat only"
_BATCH_NORM = "normalizes with statistics of each frame: use BatchNormalization, which folds into weights"
_STRIDED = "use a convolution with strides, or a ConvTranspose"
_REMEDIES = {
    **dict.fromkeys(_ACTIVATIONS, "train with ReLU"),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "Scan", "Loop"), _NO_RECURRENCE),
    **dict.fromkeys(("Attention", "MultiHeadAttention", "Einsum", "RotaryEmbedding"), _NO_ATTENTION),
    **dict.fromkeys(("Max", "Min", "Mean", "Where"), _JOINED),
    "Split": "use a convolution for each part, and join them by Concat",
    **dict.fromkeys(
        (
            "LayerNormalization",
            "InstanceNormalization",
            "GroupNormalization",
            "RMSNormalization",
            "MeanVarianceNormalization",
            "LpNormalization",
            "LRN",
        ),
        _BATCH_NORM,
    ),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _STRIDED),
    **dict.fromkeys(("LpPool", "GlobalLpPool"), "use AveragePool or MaxPool"),
    **dict.fromkeys(("ArgMax", "TopK", "Hardmax"), "leave it out: the answer is the arg-max of the spike counts"),
    **dict.fromkeys(("Slice", "Gather"), "cut the frames before they are encoded"),
    "If": "export the network in evaluation mode, without control flow",
    "ReduceSum": "use ReduceMean",
    "ReduceMax": "use GlobalMaxPool",
}


@cache
def _spellings() -> dict[str, str]:
    """ONNX's operators by their names in small letters."""
    return {schema.name.lower(): schema.name for schema in onnx.defs.get_all_schemas()}


@cache
def _first_opsets() -> dict[str, int]:
    """Of each of ONNX's own operators the version of the operators in which it came."""
    found: dict[str, int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            found[schema.name] = min(found.get(schema.name, schema.since_version), schema.since_version)
    return found


def refusal(operator: str, domain: str, opset: int) -> tuple[str, str]:
    """Why an operator is not supported, and what could be done.

    Parameters
    ----------
    operator, domain : str
        The operator and whose it is.
    opset : int
        The version of ONNX's operators that the file declares.
    """
    own = domain in ("", "ai.onnx")
    full = printable(operator if own else f"{domain}.{operator}")
    if operator in _QUANTIZED or domain.startswith(_QUANTIZED_DOMAINS):
        return (
            f"operator {full} is not one of a quantized file that is read",
            "quantize the network without it"
            if operator in ("QLinearSoftmax", "QLinearSigmoid")
            else "quantize with QuantizeLinear and DequantizeLinear (static), or export the float network",
        )
    if not operator:
        return "must have an operator", "give its op_type one of ONNX's"
    if not own:
        return (
            f"operator {full} is not one of ONNX",
            "export without the optimizations of a runtime, and without operators of your own",
        )
    if not onnx.defs.has(operator):
        known = _spellings().get(operator.lower())
        return f"operator {full} is not one of ONNX", f"it is written {known}" if known else "leave it out or replace it"
    remedy = _REMEDIES.get(operator, "leave it out or replace it")
    since = _first_opsets()[operator]
    if since > opset:
        return f"operator {operator} is one of ONNX from opset {since} on, the file declares {opset}", remedy
    return f"operator {operator} is not supported", remedy
