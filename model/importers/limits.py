"""How large a file's network may be: what is larger is refused by name before anything is allocated for it.

A file of a few hundred bytes can claim shapes of terabytes, so that sizes are held against these bounds first. They are far
above what spiking hardware of today can hold: the first convolution of VGG16 has 3.2 million outputs, and takes 15 thousand
million MACs per frame in all.
"""

__all__ = [
    "MOST_CONSTANTS",
    "MOST_COPIES",
    "MOST_FOLD",
    "MOST_INPUTS",
    "MOST_MACS",
    "MOST_MATRIX",
    "MOST_NODES",
    "MOST_OUTPUT_WEIGHTS",
    "MOST_SUMMED",
    "MOST_TOTAL",
    "MOST_VALUES",
    "MOST_WEIGHTS",
]

MOST_NODES = 5_000
"""Nodes that the output depends on."""

MOST_VALUES = 1 << 23
"""Values of a frame in one tensor."""

MOST_TOTAL = 1 << 27
"""Values of a frame in all tensors together."""

MOST_MACS = 20_000_000_000
"""MACs per frame of the float network."""

MOST_WEIGHTS = 3 << 22
"""Weights of a layer that are more than those of the file: dilations written out, averages folded in."""

MOST_MATRIX = 1 << 22
"""Elements of the matrix of an average along one axis, which is its outputs times its inputs."""

MOST_FOLD = 1 << 25
"""Elements of what compares a convolution with an average folded into it, along one axis, with the exact map."""

MOST_CONSTANTS = 1 << 24
"""Elements of constants that the file does not hold but computes."""

MOST_OUTPUT_WEIGHTS = 1 << 22
"""Weights of a linear layer that only brings outputs into the file's order."""

MOST_COPIES = 1 << 15
"""Nodes that are done to each of the parts that are joined, one for each part."""

MOST_INPUTS = 256
"""Inputs of a layer."""

MOST_SUMMED = 16
"""Inputs of a sum up to which it takes those of the layers without activation that it adds, in place of these layers."""
