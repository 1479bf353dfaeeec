"""A classifier as an ONNX file that takes pictures as they are: crop, scaling and class names are inside."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import gossamer as gs
from gossamer.paths import refuse_unwritable, write_atomically
from gossamer_vision.classifier import Classifier, evaluated
from gossamer_vision.scaling import LEAST

if TYPE_CHECKING:
    import onnx


def export_onnx(classifier: Classifier, path: Path) -> int:
    """Write the classifier as one ONNX file; return its bytes.

    Its input `images` are bytes [batch, height, width, channels] of any one size; its outputs are `probabilities`
    [batch, classes] and `class`, the likeliest class's name [batch]. Names, moments and fit are in its metadata too.
    Weights of which at most a quarter is not zero are sparse initializers. Raises `InputError` without `onnx`.
    """
    refuse_unwritable(path)
    with TemporaryDirectory() as folder, evaluated(classifier.network):
        inner = Path(folder) / "network.onnx"
        example = torch.zeros(1, *classifier.architecture["shape"])
        gs.export_onnx(classifier.network, inner, example, sparse=True)
        import onnx

        model = onnx.load(inner)
    graph = Wrapped(model.graph, classifier)
    graph.before()
    graph.after()
    described = {"classes": list(classifier.classes), "mean": list(classifier.mean), "std": list(classifier.std)}
    described |= {"fit": classifier.fit, "size": classifier.size}
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in described.items()})
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    write_atomically(path, content)
    return len(content)


class Wrapped:
    """The graph of a network, to which what comes before and after it is added."""

    def __init__(self, graph: "onnx.GraphProto", classifier: Classifier) -> None:
        self.graph, self.classifier = graph, classifier
        self.first: list[Any] = []
        self.last: list[Any] = []

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """A new initializer's name."""
        from onnx import numpy_helper

        name = f"picture.{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """A new node's output."""
        from onnx import helper

        name = output or f"picture.{operator}.{len(self.first)}"
        self.first.append(helper.make_node(operator, list(inputs), [name], name=f"{name}:{operator}", **attributes))
        return name

    def before(self) -> None:
        """From bytes of any size to what the network takes, as `Classifier.picture` and `scaled` do it."""
        from onnx import TensorProto, helper

        channels, size, _ = self.classifier.architecture["shape"]
        (entry,) = self.graph.input
        asked = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", channels])
        pixels = self.node("Cast", self._square("images"), output="picture.floats", to=TensorProto.FLOAT)
        pixels = self.node("Transpose", pixels, perm=[0, 3, 1, 2])
        batch = self.node("Shape", "images", start=0, end=1)
        sizes = self.node("Concat", batch, self.constant([channels, size, size]), axis=0)
        pixels = self.node("Resize", pixels, "", "", sizes, mode="linear", antialias=1)
        pixels = self.node("Clip", self.node("Round", pixels), *(self.constant(v, np.float32) for v in (0, 255)))
        self._scaled(pixels, entry.name)
        self.graph.input[0].CopyFrom(asked)
        nodes = [*self.first, *self.graph.node]
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        self.first = []

    def _scaled(self, pixels: str, output: str) -> None:
        """The floats that the network takes, as `scaling.scaled` makes them."""
        if self.classifier.mean:
            mean, std = (
                self.constant(255 * np.reshape(values, (1, -1, 1, 1)), np.float32)
                for values in (self.classifier.mean, self.classifier.std)
            )
            self.node("Div", self.node("Sub", pixels, mean), std, output=output)
            return
        centred = self.node("Sub", pixels, self.node("ReduceMean", pixels, self.constant([2, 3])))
        squares = self.node("Mul", centred, centred)
        skew = self.node("ReduceMean", self.node("Mul", squares, centred), self.constant([2, 3]))
        dark = self.node("Less", skew, self.constant(-((255 * LEAST) ** 3), np.float32))
        centred = self.node("Where", dark, self.node("Neg", centred), centred)
        variance = self.node("ReduceMean", squares, self.constant([1, 2, 3]))
        deviation = self.node("Max", self.node("Sqrt", variance), self.constant(255 * LEAST, np.float32))
        self.node("Div", centred, deviation, output=output)

    def _square(self, images: str) -> str:
        """The pictures made square as `readers.squared` does it."""
        if self.classifier.fit == "stretch":
            return images
        height, width = (self.node("Shape", images, start=axis, end=axis + 1) for axis in (1, 2))
        crop = self.classifier.fit == "crop"
        side = self.node("Min" if crop else "Max", height, width)
        two, zero = self.constant([2]), self.constant([0])
        if crop:
            top, left = (self.node("Div", self.node("Sub", edge, side), two) for edge in (height, width))
            ends = [self.node("Add", start, side) for start in (top, left)]
            starts = self.node("Concat", top, left, axis=0)
            return self.node("Slice", images, starts, self.node("Concat", *ends, axis=0), self.constant([1, 2]))
        missing = [self.node("Sub", side, edge) for edge in (height, width)]
        after = [self.node("Div", gap, two) for gap in missing]  # Pillow's halves are rounded down, towards the top
        ahead = [self.node("Sub", gap, half) for gap, half in zip(missing, after, strict=True)]
        pads = self.node("Concat", zero, *ahead, zero, zero, *after, zero, axis=0)
        return self.node("Pad", images, pads, self.constant(255, np.uint8))

    def after(self) -> None:
        """From the network's outputs to probabilities and names."""
        from onnx import TensorProto, helper, numpy_helper

        (exit_,) = self.graph.output
        encoded = np.array([name.encode() for name in self.classifier.classes], object)
        names = numpy_helper.from_array(encoded, "picture.classes")
        self.graph.initializer.append(names)
        self.node("Softmax", exit_.name, output="probabilities", axis=1)
        best = self.node("ArgMax", "probabilities", axis=1, keepdims=0)
        self.node("Gather", "picture.classes", best, output="class")
        self.graph.node.extend(self.first)
        del self.graph.output[:]
        self.graph.output.extend(
            [
                helper.make_tensor_value_info(
                    "probabilities", TensorProto.FLOAT, ["batch", len(self.classifier.classes)]
                ),
                helper.make_tensor_value_info("class", TensorProto.STRING, ["batch"]),
            ]
        )
