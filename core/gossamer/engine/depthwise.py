"""Depthwise convolutions: one small kernel for every channel, summed over the taps that are not zero."""

import numpy as np

from gossamer.engine.graph import Graph
from gossamer.engine.node import Node
from gossamer.kernels import Activation, images
from gossamer.kernels.tasks import Program


def is_depthwise(node: Node, graph: Graph) -> bool:
    """Say whether every channel of this convolution has an input of its own."""
    outputs, inputs = graph.tensors[node.tensors["weight"]].shape[:2]
    return inputs == 1 and node.attributes["groups"] == outputs


class Depthwise:
    """A prepared depthwise convolution, bound like the layers of `gossamer.kernels`; its input needs the whole halo.

    The taps of each channel are stored one after the other, as many as there are in whole threes.
    """

    pattern = "depthwise"

    def __init__(self, node: Node, weight: np.ndarray, bias: np.ndarray | None) -> None:
        kept = weight != 0
        counts = -(-np.count_nonzero(kept, axis=(1, 2, 3)) // 3) * 3
        self.starts = np.append(0, np.cumsum(counts)).astype(np.int64)
        channel, _, i, j = np.nonzero(kept)
        first = np.append(0, np.cumsum(np.bincount(channel, minlength=len(weight))))
        place = self.starts[channel] + np.arange(len(channel)) - first[channel]
        self.values, self.taps = np.zeros(self.starts[-1], np.float32), np.zeros(self.starts[-1], np.int32)
        self.values[place], self.taps[place] = weight[kept], i * weight.shape[3] + j
        self.shape, self.padding, self.dilation = weight.shape, node.attributes["padding"], node.attributes["dilation"]
        self.bias = np.zeros(len(weight), np.float32) if bias is None else bias
        self.stride, self.activation = node.attributes["stride"], node.attributes["activation"]

    @property
    def bytes(self) -> int:
        """The memory of the taps."""
        return sum(array.nbytes for array in (self.values, self.taps, self.starts))

    def dense(self) -> np.ndarray:
        """The weight as it was given."""
        weight = np.zeros((self.shape[0], self.shape[2] * self.shape[3]), np.float32)
        channel = np.repeat(np.arange(len(weight)), np.diff(self.starts))
        np.add.at(weight, (channel, self.taps), self.values)  # what fills up a three is a zero at tap 0
        return weight

    def bind(self, x: np.ndarray, out: np.ndarray, residual: np.ndarray | None = None, *, threads: int = 1) -> Program:
        """Return the call that sets out to activation(conv(x) + bias + residual)."""
        i, j = np.divmod(self.taps.astype(np.int64), self.shape[3])
        (top, left), (high, wide) = self.padding, self.dilation
        offsets = (i * high - top) * (x.strides[2] // 4) + j * wide - left
        activation = Activation(**self.activation) if self.activation else images.NONE
        taps = (self.starts, offsets, self.values, self.bias)
        return Program([images.depthwise(x, residual, out, *taps, tuple(self.stride), activation)], threads)
