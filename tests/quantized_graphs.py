"""Small quantized networks in the forms in which exporters write them, for the tests of import and conversion.

Scales are powers of two, so that float32 holds every sum exactly and what is right is right to the last integer.
"""

from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FORMS = ("qdq", "qcdq", "operators", "qonnx")
SHAPE = (8, 8, 2)

INPUT_STEP = 2.0**-4
"""Scale of the input: 16 levels of 4 bits."""


class Place(NamedTuple):
    """A tensor of a network: its name, its scale and zero point, None where it is not of levels, and its shape."""

    last: str
    step: float | None
    zero: int
    shape: tuple[int, ...]


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

    def round(self, step, bits=8, zero=None, **quant):
        """The last tensor rounded to levels, in the network's form; integers between operators on integers."""
        self.step, self.zero = step, self.zero if zero is None else zero
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

    @property
    def place(self):
        """Where the network has got to, to go on from once more."""
        return Place(self.last, self.step, self.zero, self.shape)

    @place.setter
    def place(self, place):
        self.last, self.step, self.zero, self.shape = place

    def levels_of(self, place):
        """Inputs scale and zero point of a quantizer of a tensor."""
        return self.constant(place.step), self.constant(place.zero, self.dtype)

    def sum(self, other, out_step=None, *, relu=True, zero=None):
        """The sum of the last tensor and another, rounded where that is said."""
        here = self.place
        if self.form == "operators":
            self.step, self.zero = out_step, self.zero if zero is None else zero
            inputs = [here.last, *self.levels_of(here), other.last, *self.levels_of(other), *self.levels]
            self.last = self.add("QLinearAdd", *inputs, domain="com.microsoft")
            return self
        self.last, self.zero = self.add("Add", here.last, other.last), self.zero if zero is None else zero
        self.step = out_step
        return self if out_step is None else self.activate(relu).round(out_step)

    def concat(self, *others, out_step=None, zero=None):
        """The last tensor and others, joined along the channels, rounded where that is said."""
        places = (self.place, *others)
        self.shape = (*self.shape[:2], sum(place.shape[2] for place in places))
        self.step, self.zero = out_step, self.zero if zero is None else zero
        if self.form == "operators":
            inputs = [name for place in places for name in (place.last, *self.levels_of(place))]
            self.last = self.add("QLinearConcat", *self.levels, *inputs, domain="com.microsoft", axis=1)
            return self
        self.last = self.add("Concat", *(place.last for place in places), axis=1)
        return self if out_step is None else self.round(out_step)

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

    def conv(self, outputs, kernel, out_step, *, step=2.0**-4, relu=True, bits=8, most=8, zero=None, **attributes):
        group = attributes.get("group", 1)
        weights, steps = self.weights((outputs, self.shape[2] // group, kernel, kernel), step, 0, most)
        bias = self.bias(outputs, self.step * steps)
        attributes = {"kernel_shape": [kernel] * 2, **attributes}
        self.shape = (*self.shape[:2], outputs)
        before = self.levels if self.form == "operators" else ()
        self.zero = self.zero if zero is None else zero
        if self.form == "operators":
            self.step = out_step
            self.last = self.add("QLinearConv", self.last, *before, *weights, *self.levels, bias, **attributes)
            return self
        self.last = self.add("Conv", self.last, *weights, bias, **attributes)
        self.step = out_step
        return self.activate(relu).round(out_step, bits) if out_step is not None else self

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


def residual(form="qdq", *, rounds=True, **how):
    """A block whose shortcut is its source; its second convolution is rounded, or is not."""
    net = Quantized(form, **how).round(2.0**-4, bits=4).conv(4, 3, 2.0**-4, pads=[1] * 4)
    before = net.place
    net.conv(4, 3, 2.0**-5, pads=[1] * 4).conv(4, 3, 2.0**-5 if rounds else None, relu=False, pads=[1] * 4)
    return net.sum(before, 2.0**-3).pool("AveragePool", 4, out_step=2.0**-5).linear(16, 5, 2.0**-4)


class RandomBranches:
    """A random network with branches whose scales are powers of two: residual sums, shortcuts, concatenations, pools, averages.

    Parameters
    ----------
    seed : int
        What is drawn from.
    form : str
        One of `FORMS`.

    Attributes
    ----------
    net : Quantized
        The network.
    kinds : list of str
        What its blocks are.
    """

    def __init__(self, seed, form):
        self.rng = np.random.default_rng(seed)
        self.net = Quantized(form, opset=13, seed=seed, signed=bool(self.rng.random() < 0.3))
        self.net.round(INPUT_STEP, bits=8 if self.net.signed else 4, zero=self._zero(lowest=True))
        self.kinds = []
        self._conv(int(self.rng.integers(2, 5)), relu=True)
        for _ in range(int(self.rng.integers(2, 5))):
            kind = str(self.rng.choice(["identity", "shortcut", "concat", "pooled", "waiting"]))
            self.kinds.append(kind)
            getattr(self, f"_{kind}")()
        positions = 64
        if self.rng.random() < 0.6:
            self.kinds.append("average")
            self.net.pool("AveragePool", 4, out_step=self._step())
            positions = 4
        out_step = self._step() if form == "operators" or self.rng.random() < 0.5 else None
        self.net.linear(positions * self.net.shape[2], 4, out_step, gemm=form != "operators")

    def _step(self):
        return 2.0 ** -int(self.rng.integers(3, 7))

    def _zero(self, lowest=False):
        """An even zero point: halves go to the even level then; the lowest level where all else is cut off."""
        if lowest:
            return -128 if self.net.signed else 0
        return 0 if self.net.signed else 2 * int(self.rng.integers(20, 70))

    def _conv(self, outputs, *, relu, kernel=3, out_step="any", place=None):
        """A convolution; what is not cut off at 0 has levels below it."""
        net = self.net
        if place is not None:
            net.place = place
        per_channel = self.rng.random() < 0.5
        step = 2.0 ** -(4 + self.rng.integers(0, 2, outputs)) if per_channel else 2.0**-4
        out_step = self._step() if out_step == "any" else out_step
        zero = self._zero(lowest=relu)
        return net.conv(outputs, kernel, out_step, step=step, relu=relu, zero=zero, pads=[kernel // 2] * 4, most=5).place

    def _identity(self):
        """A residual block whose shortcut is its source."""
        before = self.net.place
        self._conv(before.shape[2], relu=True)
        out_step = "any" if self.net.form == "operators" or self.rng.random() < 0.6 else None
        self._conv(before.shape[2], relu=False, out_step=out_step)
        self.net.sum(before, self._step(), zero=self._zero(lowest=True))

    def _shortcut(self):
        """One whose shortcut is a convolution of single positions."""
        before, channels = self.net.place, int(self.rng.integers(2, 5))
        other = self._conv(channels, relu=False, kernel=1)
        self._conv(channels, relu=False, place=before)
        relu = bool(self.rng.random() < 0.7)
        self.net.sum(other, self._step(), relu=relu, zero=self._zero(lowest=relu))

    def _concat(self):
        """Two branches or three, of one scale or of several, joined."""
        before, alike = self.net.place, self._step() if self.rng.random() < 0.4 else None
        branches = [
            self._conv(int(self.rng.integers(1, 4)), relu=True, kernel=int(self.rng.choice([1, 3])),
                       out_step=alike or self._step(), place=before)
            for _ in range(int(self.rng.integers(2, 4)))
        ]  # fmt: skip
        rounds = self.net.form == "operators" or self.rng.random() < 0.6
        self.net.place = branches[0]
        self.net.concat(*branches[1:], out_step=(alike or self._step()) if rounds else None, zero=self._zero(lowest=True))
        if not rounds:
            # The bias of what comes after is in the finest unit.
            self.net.step = min(place.step for place in branches)
            self._conv(3, relu=True)

    def _pooled(self):
        """Maxima of windows, at every position, and a convolution of what they are of, added."""
        before, net = self.net.place, self.net
        net.last = net.add("MaxPool", net.last, kernel_shape=[3, 3], pads=[1] * 4)
        pooled = net.place
        self._conv(before.shape[2], relu=False, place=before)
        net.sum(pooled, self._step(), zero=self._zero(lowest=True))

    def _waiting(self):
        """A sum that is not rounded, for the convolution after it; with a concatenation in it, it would be a layer."""
        before = self.net.place
        if self.net.form == "operators" or self.kinds[-2:-1] == ["concat"]:
            self._identity()
            return
        self._conv(before.shape[2], relu=True)
        finest = min(before.step, self.net.step)
        self.net.sum(before)
        self.net.step = finest
        self._conv(3, relu=True)
