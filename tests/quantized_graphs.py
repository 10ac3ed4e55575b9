"""Small quantized networks in the forms in which exporters write them, for the tests of import and conversion.

Scales are powers of two, so that float32 holds every sum exactly and what is right is right to the last integer.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FORMS = ("qdq", "qcdq", "operators", "qonnx")
SHAPE = (8, 8, 2)

INPUT_STEP = 2.0**-4
"""Scale of the input: 16 levels of 4 bits."""


class Quantized:
    """A network that grows layer by layer: quantized input, convolutions, pools, linear layers, each with levels after it.

    Parameters
    ----------
    form : str
        One of `FORMS`: quantizers and dequantizers, the same with a Clip between them, operators on integers, or QONNX's.
    """

    def __init__(self, form="qdq", opset=13, seed=0, signed=False, zero=0, bits=8, shape=SHAPE):
        self.form, self.opset, self.signed, self.zero, self.bits = form, opset if bits == 8 else 21, signed, zero, bits
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants, self.shape = [], [], shape
        self.last, self.step = "image", None
        self.step_of_output = None
        self.fraction = 0.0
        self.of_pixels = self.ends_in_levels = False

    def constant(self, value, dtype=np.float32):
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, operator, *inputs, domain="", **attributes):
        number = len(self.nodes)
        node = helper.make_node(operator, list(inputs), [f"t{number}"], name=f"{operator}_{number}", domain=domain, **attributes)
        self.nodes.append(node)
        return f"t{number}"

    @property
    def dtype(self):
        return np.dtype(f"{'' if self.signed else 'u'}int{self.bits}")

    @property
    def levels(self):
        """Inputs scale and zero point of a quantizer of the last tensor."""
        return self.constant(self.step), self.constant(self.zero, self.dtype)

    def round(self, step, bits=8, **quant):
        """The last tensor rounded to levels, in the network's form; integers between operators on integers."""
        self.step = step
        if self.form == "qonnx":
            inputs = [self.constant(n) for n in (step, self.zero, bits)]
            quant = {"signed": int(self.signed), "narrow": 0, "rounding_mode": "ROUND", **quant}
            self.last = self.add("Quant", self.last, *inputs, domain="qonnx.custom_op.general", **quant)
            return self
        scale, zero = self.levels
        self.last = self.add("QuantizeLinear", self.last, scale, zero)
        if self.form == "qcdq":
            ends = (-(1 << bits - 1), (1 << bits - 1) - 1) if self.signed else (0, (1 << bits) - 1)
            self.last = self.add("Clip", self.last, *(self.constant(n, self.dtype) for n in ends))
        if self.form != "operators":
            self.last = self.add("DequantizeLinear", self.last, scale, zero)
        return self

    def take_pixels(self, step):
        """The input as integers of 8 bits, which the first node takes as levels, or a dequantizer in front of it."""
        self.step, self.of_pixels = step, True
        if self.form != "operators":
            self.last = self.add("DequantizeLinear", self.last, *self.levels)
        return self

    def weights(self, shape, step, axis, most=8):
        """Integer weights with their scale, for each output or for all; as the form has them."""
        integers = self.rng.integers(-most, most + 1, shape)
        step = np.asarray(step, np.float64)
        along = [1] * len(shape)
        along[axis] = -1
        floats = integers * (step.reshape(along) if step.ndim else step)
        zero = np.zeros(step.shape, np.int8)
        if self.form == "qonnx":
            inputs = [self.constant(floats), self.constant(step.reshape(along) if step.ndim else step)]
            inputs += [self.constant(0), self.constant(8)]
            return [self.add("Quant", *inputs, domain="qonnx.custom_op.general", signed=1, narrow=1, rounding_mode="ROUND")], step
        inputs = [self.constant(integers, np.int8), self.constant(step), self.constant(zero, np.int8)]
        if self.form == "operators":
            return inputs, step
        along = {"axis": axis} if step.ndim else {}
        return [self.add("DequantizeLinear", *inputs, **along)], step

    def bias(self, outputs, step):
        """An integer bias in the unit of the sums; as the form has it."""
        integers = self.rng.integers(-60, 61, outputs)
        if self.form == "operators":
            return self.constant(integers, np.int32)
        # Of a bias that is not quantized only some numbers are whole.
        integers = integers + self.fraction * (np.arange(outputs) % 4)
        return self.constant(integers * step)

    def conv(self, outputs, kernel, out_step, *, step=2.0**-4, relu=True, bits=8, most=8, **attributes):
        group = attributes.get("group", 1)
        weights, steps = self.weights((outputs, self.shape[2] // group, kernel, kernel), step, 0, most)
        bias = self.bias(outputs, self.step * steps)
        attributes = {"kernel_shape": [kernel] * 2, **attributes}
        self.shape = (*self.shape[:2], outputs)
        if self.form == "operators":
            before = self.levels
            self.step = out_step
            self.last = self.add("QLinearConv", self.last, *before, *weights, *self.levels, bias, **attributes)
            return self
        self.last = self.add("Conv", self.last, *weights, bias, **attributes)
        return self.activate(relu).round(out_step, bits)

    def activate(self, relu):
        if relu:
            self.last = self.add("Relu", self.last)
        return self

    def pool(self, operator="MaxPool", size=2, out_step=None):
        window = {"kernel_shape": [size] * 2, "strides": [size] * 2}
        if operator == "AveragePool" and self.form == "operators":
            before = self.levels
            self.step = out_step or self.step
            self.last = self.add("QLinearAveragePool", self.last, *before, *self.levels, domain="com.microsoft", **window)
            return self
        # Before opset 12 there is no MaxPool of integers.
        between = self.levels if self.form == "operators" and self.opset < 12 else ()
        if between:
            self.last = self.add("DequantizeLinear", self.last, *between)
        self.last = self.add(operator, self.last, **window)
        if between:
            self.last = self.add("QuantizeLinear", self.last, *between)
        return self.round(out_step or self.step) if operator == "AveragePool" else self

    def linear(self, inputs, outputs, out_step=None, *, step=2.0**-4, relu=False, gemm=True):
        self.step_of_output = out_step
        if len(self.shape) == 3:
            self.last, self.shape = self.add("Flatten", self.last), (inputs,)
        per_output = (1 if self.form == "operators" else 0) if gemm else 1
        shape = (outputs, inputs) if gemm and not per_output else (inputs, outputs)
        weights, steps = self.weights(shape, step, per_output)
        if self.form == "operators":
            before = self.levels
            if gemm:
                bias = self.bias(outputs, None)
                after = []
                if out_step is not None:
                    self.step = out_step
                    after = self.levels
                self.last = self.add("QGemm", self.last, *before, *weights, bias, *after, domain="com.microsoft", alpha=1.0)
            else:
                self.step = out_step
                self.last = self.add("QLinearMatMul", self.last, *before, *weights, *self.levels)
            return self
        if gemm:
            self.last = self.add("Gemm", self.last, *weights, self.bias(outputs, self.step * steps), transB=1)
        else:
            self.last = self.add("MatMul", self.last, *weights)
        self.activate(relu)
        return self if out_step is None else self.round(out_step)

    def model(self):
        last = self.nodes[-1]
        integers = self.form == "operators" and last.op_type != "DequantizeLinear" and len(last.input) != 7
        if integers and not self.ends_in_levels:
            self.last = self.add("DequantizeLinear", self.last, *self.levels)
        height, width, channels = SHAPE
        nodes, output = self.nodes, self.last
        if self.ends_in_levels and self.form == "qdq":
            nodes, output = nodes[:-1], last.input[0]
        kinds = [
            helper.np_dtype_to_tensor_dtype(self.dtype) if integer else TensorProto.FLOAT
            for integer in (self.of_pixels, self.ends_in_levels)
        ]
        graph = helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info("image", kinds[0], ["frames", channels, height, width])],
            [helper.make_tensor_value_info(output, kinds[1], None)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(domain, 1) for domain in dict.fromkeys(n.domain for n in self.nodes) if domain]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9 if self.opset < 21 else 10)

    def save(self, path):
        onnx.save(self.model(), path)
        return path


def usual(form="qdq", opset=13, *, per_channel=False, seed=0, **how):
    """A convolution, a max-pool, another, an average, a linear layer."""
    def steps(n):
        return 2.0 ** -(4 + np.arange(n) % 3) if per_channel else 2.0**-4

    net = Quantized(form, opset, seed, **how).round(INPUT_STEP, bits=4)
    net.conv(4, 3, 2.0**-4, pads=[1] * 4, step=steps(4)).pool()
    net.conv(6, 3, 2.0**-3, pads=[0, 1, 1, 0], step=steps(6)).pool("AveragePool", out_step=2.0**-3)
    return net.linear(24 // 4, 5, 2.0**-2)
