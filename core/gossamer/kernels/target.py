"""The processor that the kernels are compiled for: how wide its vectors are and how many registers hold them."""

import functools
import importlib.util
import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """`lanes` floats in a vector, `registers` vectors at hand; `name` is the processor's in LLVM."""

    name: str
    lanes: int
    registers: int

    def vectors(self, channels: int) -> int:
        """How many vectors of pixels fit a tile of `channels` output channels: sums, inputs and one weight."""
        if channels == 1:
            return self.registers // 2  # the input is an operand in memory
        return (self.registers - 1) // (channels + 1)


@functools.cache
def available() -> bool:
    """Whether the compiled kernels can run here: whether Numba is installed."""
    return importlib.util.find_spec("numba") is not None


@functools.cache
def target() -> Target:
    """The target that Numba compiles for, found by looking at what LLVM makes of a product of 16 floats."""
    if not available():
        return Target("unknown", 4, 16)
    import llvmlite.binding as llvm
    from numba.core.registry import cpu_target

    codegen = cpu_target.target_context.codegen()  # pyright: ignore[reportAttributeAccessIssue]
    triple, name, features = codegen.magic_tuple()
    if "NUMBA_CPU_NAME" in os.environ and "NUMBA_CPU_FEATURES" not in os.environ:
        features = ""  # Numba would add the host's features to the named processor
    return probe(llvm.Target.from_triple(triple).create_target_machine(cpu=name, features=features), name)


def probe(machine: Any, name: str) -> Target:
    """The Target of an LLVM target machine."""
    import llvmlite.binding as llvm

    vector = "<16 x float>"
    source = f"define {vector} @f({vector} %a, {vector} %b) {{ %c = fmul {vector} %a, %b\n ret {vector} %c }}"
    assembly = machine.emit_assembly(llvm.parse_assembly(source))
    if "zmm" in assembly:
        return Target(name, 16, 32)
    if "ymm" in assembly:
        return Target(name, 8, 16)
    return Target(name, 4, 32 if "v0.4s" in assembly else 16)
