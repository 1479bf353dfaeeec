"""CPU kernels for sparse (and dense) linear and convolution layers, on NumPy arrays, without torch.

Prepare the weights once, bind them to buffers once, run many times::

    conv = kernels.conv2d(weight, mask, bias=bias, padding=1, activation="relu")  # weight (O, I/groups, KH, KW)
    x = kernels.allocate((1, 64, 56, 56), halo=conv.halo)  # (N, C, H, W), the interior of a buffer whose halo is zero
    y = kernels.allocate(conv.output_shape(x.shape), halo=(1, 1))
    run = conv.bind(x, y, residual=None, threads=1)
    run()  # y = relu(conv(x) + bias + residual)

Shapes and layouts. Everything is float32. Images are NCHW arrays of any strides whose innermost stride is one element;
channels may be a slice of a larger buffer (`buffer[:, 3:7]`), so concatenations need no copy. `linear` takes rows,
x (N, I) and out (N, O), each row contiguous, and a weight (O, I). A mask is a boolean array of the weight's shape;
`mask=None` means that every weight is kept, which makes a dense layer.

Buffers. `allocate(shape, halo=(h, w))` returns the interior of a zeroed buffer with at least h rows and w columns of
zeros on every side of each image; kernels write interiors only, so a halo stays zero for ever. A convolution wants its
input's halo to be at least `conv.halo`; with less (a plain array, say) it is still right, but copies its input first.
It is fastest where input, output and residual share height, width and halo: give all tensors of one resolution the
same halo. A residual may be the output's own memory. `Layout(shape, halo)` is the plan behind `allocate`: `.size`
floats, `.view(flat)` the interior within a flat float32 array whose halo the caller has zeroed; buffers of equal
`Layout` may share memory, others may not, as their halos differ.

Binding. `bind` returns a call without arguments, reading and writing the bound arrays; bind once per caller: a bound
call may own scratch memory, so it must not run twice at the same time, though two bindings may. `threads` is how many
threads may work on one call. Weights are stored once for all bindings, six bytes for each non-zero, or 4 + 2/n where n
output channels share their positions.

Where Numba is missing, `bind` answers with the plain NumPy twins of `gossamer.kernels.reference`; `available()` tells.
"""

from gossamer.kernels.activation import ACTIVATIONS, Activation
from gossamer.kernels.convolution import Convolution, conv2d
from gossamer.kernels.layout import Layout, allocate
from gossamer.kernels.matrix import Linear, linear
from gossamer.kernels.target import available

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Convolution",
    "Layout",
    "Linear",
    "allocate",
    "available",
    "conv2d",
    "linear",
]
