"""The agent: a policy and a value function over MiniGrid's symbolic view, two perceptrons side by side."""

import math

import torch
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX
from torch import Tensor, nn

OBJECTS, COLOURS, STATES = len(OBJECT_TO_IDX), len(COLOR_TO_IDX), len(STATE_TO_IDX)
VIEW, ACTIONS = 7, 7


def one_hot() -> Tensor:
    """Row (object · COLOURS + colour) · STATES + state: the three one-hot codes side by side."""
    triples = torch.cartesian_prod(torch.arange(OBJECTS), torch.arange(COLOURS), torch.arange(STATES))
    return torch.cat([nn.functional.one_hot(column) for column in triples.unbind(1)], dim=1).float()


def perceptron(inputs: int, width: int, outputs: int, gain: float, generator: torch.Generator | None) -> nn.Sequential:
    """Two hidden layers of tanh, orthogonal weights, zero biases; `gain` scales the last layer's."""
    layers = [nn.Linear(inputs, width), nn.Linear(width, width), nn.Linear(width, outputs)]
    for layer, scale in zip(layers, (math.sqrt(2), math.sqrt(2), gain), strict=True):
        nn.init.orthogonal_(layer.weight, scale, generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


class ActorCritic(nn.Module):
    """π(a | view) and V(view), in two networks of `width` that share nothing but the input.

    The input is the view's one-hot code: 7 · 7 cells of 11 objects, 6 colours and 3 states. The weights are drawn
    from `generator`.
    """

    table: Tensor

    def __init__(self, width: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.register_buffer("table", one_hot(), persistent=False)
        inputs = VIEW * VIEW * (OBJECTS + COLOURS + STATES)
        self.actor = perceptron(inputs, width, ACTIONS, 0.01, generator)
        self.critic = perceptron(inputs, width, 1, 1.0, generator)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Bytes [n, 7, 7, 3] to logits [n, 7] and values [n]."""
        objects, colours, states = views.flatten(1, 2).int().unbind(-1)
        code = self.table[(objects * COLOURS + colours) * STATES + states].flatten(1)
        return self.actor(code), self.critic(code).squeeze(1)


def width_of_equal_size(width: int, sparsity: float) -> int:
    """The width of the dense agent whose parameters come nearest to the living ones of a sparse agent of `width`."""

    def size(w: int, density: float = 1.0) -> float:
        inputs = VIEW * VIEW * (OBJECTS + COLOURS + STATES)
        weights = 2 * (inputs * w + w * w) + (ACTIONS + 1) * w
        return density * weights + 4 * w + ACTIONS + 1

    return min(range(1, width + 1), key=lambda w: abs(size(w) - size(width, 1 - sparsity)))
