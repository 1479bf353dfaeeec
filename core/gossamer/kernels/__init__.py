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

Binding. `bind` returns a call without arguments, reading and writing the bound arrays: a `tasks.Program`. Two bindings
may run at the same time; calls of one wait for each other. `threads` is how many threads may work on one call; results
do not depend on it. Weights take six bytes for each non-zero, or 4 + 2/n where n output channels share their positions.

Where Numba is missing, `bind` answers with the plain NumPy twins of `gossamer.kernels.reference`; `available()` tells.

The modules, in the order in which a convolution meets them (each imports only what stands before it, or nothing):

    layout, geometry     where images lie in memory, and how a kernel walks over them
    activation           the activations, each a formula
    packing              a weight's non-zeros as sections: groups of output channels that share a loop over entries
    reference            the plain NumPy twin of every kernel
    convolution, linear_layer   what users hold: packed weights, to be bound to arrays

    target, compiled     which processor this is; functions compiled as C functions, and their machine code on disk
    simd, memory, functions     vector instructions, numbers at addresses, activations, in compiled loops
    threads, team, tasks        the threads; the compiled code by which they share work; tasks and programs of it

    tiles, strip_loops, strips       the convolution: in registers, over images and tiles, bound to arrays
    rows, product_loops, products    matrix-vector products and transpositions, likewise
    copies                           images to and from the phases of a stride
    binding                          a convolution on any arrays, copied where they do not lie as the kernel wants
    image_loops, pooling, norm_loops, images     what stands between convolutions; the last binds the others' loops
    attention_loops, attention       attention, dense, with the queries in the vectors
    training_loops, training_batches, training    values that change, and the gradients
    pooled_loops, batch_norm         batch norm in training, with what follows it

A kernel is a `tasks.Task`: a C function of (table, worker, first, end) that does the items first … end-1 of what a
table of int64 describes; an `IntEnum` beside the loop names the table's columns. Tables hold addresses, so that a task
keeps alive what its table points to. `tiles` shows how the plan of a convolution, its chunks and its sections hang
together.
"""

from gossamer.kernels.activation import ACTIVATIONS, Activation
from gossamer.kernels.convolution import Convolution, conv2d
from gossamer.kernels.layout import Layout, Scratch, allocate
from gossamer.kernels.linear_layer import Linear, linear
from gossamer.kernels.target import available

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Convolution",
    "Layout",
    "Linear",
    "Scratch",
    "allocate",
    "available",
    "conv2d",
    "linear",
]
