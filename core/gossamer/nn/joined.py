"""Modules whose batch norms take over what follows them in `forward`: adding a residual, a ReLU, max pooling.

A module is traced once, by torch.fx, and its calls are written down as steps. While it trains, the steps run in the
place of its `forward`, on the same modules; else, and where a module was exchanged or has hooks, `forward` runs.
"""

import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from gossamer.nn.norm import BatchNorm2d

Path = tuple[str, ...]

SUMS: tuple[Any, ...] = (operator.add, torch.add, "add", "add_")
RELUS: tuple[Any, ...] = (F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
KNOWN: tuple[Any, ...] = (*SUMS, *RELUS, torch.flatten, "flatten")
"""What a module may call beside others: nothing whose result depends on more than its arguments."""
HOOKS = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"


class Step(NamedTuple):
    """A value: what `function`, or the module at `path`, makes of other values and of further arguments."""

    name: str
    path: Path
    function: Callable[..., Any] | None
    values: tuple[str, ...]
    further: tuple[Any, ...]
    last: tuple[str, ...]
    """the values that no later step needs"""


class Plan(NamedTuple):
    """What a module does, as it was traced."""

    given: str  # the name of the input
    steps: tuple[Step, ...]
    result: str  # the name of what is returned
    kinds: tuple[type[nn.Module], ...]  # of the modules within
    unheard: tuple[Path, ...]  # the modules whose hooks would not hear what they are to hear


class Joined(nn.Module):
    """What a module is beside its own class while its norms take over what follows them."""

    _joined: Plan

    def by_steps(self, x: Tensor) -> Tensor:
        """What `forward` returns."""
        values = {self._joined.given: x}
        for name, path, function, needed, further, last in self._joined.steps:
            values[name] = (function or _at(self, path))(*[values[other] for other in needed], *further)
            for other in last:
                del values[other]
        return values[self._joined.result]

    def is_as_traced(self) -> bool:
        """Whether the steps are still what `forward` does."""
        kinds, unheard = self._joined.kinds, self._joined.unheard
        same = tuple(_kind(module) for _, module in _within(self)) == kinds
        return same and not any(getattr(_at(self, path), hooks) for path in unheard for hooks in HOOKS)

    def __reduce__(self) -> Any:
        return _empty, (_kind(self),), self.__dict__


def join(model: nn.Module) -> None:
    """Let the kernels' batch norms take over what follows them, in every module of the model, in place."""
    for module in reversed(list(model.modules())):
        if not isinstance(module, Joined) and any(type(child) is BatchNorm2d for _, child in _within(module)):
            plan = _traced(module)
            if plan:
                module._joined, module.__class__ = plan, _joined(type(module))  # pyright: ignore[reportArgumentType]


def part(model: nn.Module) -> None:
    """Undo `join`."""
    for module in model.modules():
        if isinstance(module, Joined):
            module.__class__ = _kind(module)  # pyright: ignore[reportAttributeAccessIssue]
            del module._joined


def _kind(module: nn.Module) -> type[nn.Module]:
    """A module's own class."""
    return type(module).__mro__[2] if isinstance(module, Joined) else type(module)


@functools.cache
def _joined(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of a joined module of that kind."""

    @functools.wraps(kind.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        alone = self.training and not torch.compiler.is_compiling() and len(args) == 1 and not kwargs
        return self.by_steps(*args) if alone and self.is_as_traced() else kind.forward(self, *args, **kwargs)

    body = {"forward": forward, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (Joined, kind), body)


def _empty(kind: type[nn.Module]) -> nn.Module:
    """A joined module without anything in it, for pickle and deepcopy to fill."""
    joined = _joined(kind)
    return joined.__new__(joined)


def _within(module: nn.Module, path: Path = ()) -> Iterator[tuple[Path, nn.Module]]:
    """The children, and those of children that are plain Sequentials."""
    for name, child in module._modules.items():
        if child is not None:
            yield (*path, name), child
            if type(child) is nn.Sequential:
                yield from _within(child, (*path, name))


def _at(module: Any, path: Path) -> Any:
    for name in path:
        module = module._modules[name]
    return module


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) is not nn.Sequential


class _Join(NamedTuple):
    """A norm and what it takes over: the nodes, norm first, a residual, whether a ReLU and pooling follow."""

    nodes: tuple[fx.Node, ...]
    residual: fx.Node | None
    relu: bool
    pooled: bool

    def step(self, name: str) -> Step:
        """The one call that all of it becomes."""
        norm = self.nodes[0]
        values = (norm.args[0], *([] if self.residual is None else [self.residual]))
        further = (*(() if self.residual else (None,)), self.relu, self.pooled)
        return Step(name, _path(norm), None, tuple(str(value) for value in values), further, ())


def _traced(module: nn.Module) -> Plan | None:
    """A module's plan; None where nothing is joined, or where more than known calls is done."""
    within, training = dict(_within(module)), module.training
    module.training = True
    try:
        nodes = list(_Tracer().trace(module).nodes)
    except Exception:  # whatever a module's own code raises when it meets a tracer
        return None
    finally:
        module.training = training
    kinds = {node: type(within.get(_path(node))) for node in nodes if node.op == "call_module"}
    given = [node.name for node in nodes if node.op == "placeholder"]
    pools = {node for node in kinds if _halves(within.get(_path(node)))}
    joins = _joins(nodes, kinds, pools)
    if not joins or len(given) != 1 or type(None) in kinds.values() or not all(map(_is_known, nodes)):
        return None
    ends = {join.nodes[-1]: join for join in joins}
    inner = {node for join in joins for node in join.nodes[:-1]}
    steps = [
        ends[node].step(node.name) if node in ends else _step(node)
        for node in nodes
        if node.op not in ("placeholder", "output") and node not in inner
    ]
    silent = [_path(node) for join in joins for node in join.nodes if node.op == "call_module"]
    silent += [path for path, child in within.items() if type(child) is nn.Sequential]
    result = str(nodes[-1].args[0])
    unheard = tuple(dict.fromkeys(silent))
    return Plan(given[0], _forgetting(steps, result), result, tuple(map(_kind, within.values())), unheard)


def _halves(module: nn.Module | None) -> bool:
    """Whether a module takes the largest of every two by two pixels."""
    if type(module) is not nn.MaxPool2d or module.return_indices or module.ceil_mode:
        return False
    options = (module.kernel_size, module.stride, module.padding, module.dilation)
    return [n if isinstance(n, tuple) else (n, n) for n in options] == HALVES


HALVES = [(2, 2), (2, 2), (0, 0), (1, 1)]


def _joins(nodes: list[fx.Node], kinds: Mapping[fx.Node, type[Any]], pools: set[fx.Node]) -> list[_Join]:
    """Each norm of the kernels with what it takes over."""
    found: list[_Join] = []
    taken: set[fx.Node] = set()
    for norm in nodes:
        if kinds.get(norm) is not BatchNorm2d:
            continue
        chain, residual = [norm], None
        after = _only_user(norm)
        if after in taken:  # a sum of two norms
            continue
        if after and _calls(after, SUMS) and len(after.args) == 2 and not after.kwargs:
            others = [other for other in after.args if isinstance(other, fx.Node) and other is not norm]
            if len(others) == 1:
                residual = others[0]
                chain.append(after)
                after = _only_user(after)
        relu = pooled = False
        if after and after is chain[-1].next and (_calls(after, RELUS) or kinds.get(after) is nn.ReLU):
            relu = True
            chain.append(after)
            after = _only_user(after)
            if after and after is chain[-1].next and after in pools and residual is None:
                pooled = True
                chain.append(after)
        if len(chain) > 1:
            found.append(_Join(tuple(chain), residual, relu, pooled))
            taken.update(chain)
    return found


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _calls(node: fx.Node, functions: tuple[Any, ...]) -> bool:
    return node.op in ("call_function", "call_method") and node.target in functions


def _is_known(node: fx.Node) -> bool:
    """Whether a node is a call that a step can be."""
    if node.op in ("placeholder", "output"):
        return all(isinstance(value, fx.Node) for value in node.args)
    further = node.args[1:] if _calls(node, KNOWN) and not _calls(node, SUMS) else ()
    whole = all(isinstance(value, fx.Node) for value in node.args[: len(node.args) - len(further)])
    known = node.op == "call_module" or _calls(node, KNOWN)
    return known and whole and set(node.kwargs) <= {"inplace"} and bool(node.args)


def _step(node: fx.Node) -> Step:
    """A call that stays what it is."""
    function: Any = None
    if node.op != "call_module":
        function = getattr(Tensor, node.target) if isinstance(node.target, str) else node.target
        function = functools.partial(function, **node.kwargs) if node.kwargs else function
    values = tuple(value.name for value in node.args if isinstance(value, fx.Node))
    return Step(node.name, _path(node) if function is None else (), function, values, node.args[len(values) :], ())


def _forgetting(steps: list[Step], result: str) -> tuple[Step, ...]:
    """The steps, each with the values that no later one needs."""
    needed, made = {result}, []
    for step in reversed(steps):
        last = {name for name in step.values if name not in needed}
        needed |= last
        made.append(step._replace(last=tuple(last)))
    return tuple(reversed(made))


def _path(node: fx.Node) -> Path:
    return tuple(str(node.target).split("."))
