"""The agent: a policy and a value function, two perceptrons side by side over what an environment shows."""

import math

import torch
from torch import Tensor, nn

from gossamer_rl.gru import Steps
from gossamer_rl.observations import Seen
from gossamer_rl.onehot import OneHotLinear


class Scaled(nn.Module):
    """x ↦ (x − mean) / deviation of all that was shown so far, cut at ±5 (Welford 1962); `show` shows more."""

    mean: Tensor
    square: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("square", torch.ones(size))
        self.register_buffer("count", torch.tensor(1e-4))

    @torch.no_grad()
    def show(self, x: Tensor) -> None:
        """Take x [n, size] into the mean and the deviation."""
        share = len(x) / (self.count + len(x))
        shift = x.mean(0) - self.mean
        self.square += share * (x.var(0, correction=0) - self.square + (1 - share) * shift.square())
        self.mean += share * shift
        self.count += len(x)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, size], scaled."""
        return ((x - self.mean) / (self.square + 1e-8).sqrt()).clamp(-5, 5)


def perceptron(seen: Seen, width: int, outputs: int, gain: float, generator: torch.Generator | None) -> nn.Sequential:
    """Two hidden layers of tanh, orthogonal weights, zero biases; `gain` scales the last layer's."""
    first = nn.Linear(seen.size, width) if seen.members is None else OneHotLinear(seen.members, width)
    layers = [first, nn.Linear(width, width), nn.Linear(width, outputs)]
    for layer, scale in zip(layers, (math.sqrt(2), math.sqrt(2), gain), strict=True):
        nn.init.orthogonal_(layer.weight, scale, generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


class Recurrent(nn.Module):
    """A perceptron whose second layer remembers: a gated recurrent unit (Cho et al. 2014) of `width`.

    x = tanh(first(o)); r, z = σ(Wx + Uh + b); n = tanh(Wx + b + r (Uh + b)); h ← (1 − z) n + z h; y = last(x + h).
    """

    def __init__(self, seen: Seen, width: int, outputs: int, gain: float, generator: torch.Generator | None) -> None:
        super().__init__()
        self.first = nn.Linear(seen.size, width) if seen.members is None else OneHotLinear(seen.members, width)
        self.into, self.back = nn.Linear(width, 3 * width), nn.Linear(width, 3 * width)
        self.last = nn.Linear(width, outputs)
        scales = {self.first: math.sqrt(2), self.into: 1.0, self.back: 1.0, self.last: gain}
        for layer, scale in scales.items():
            nn.init.orthogonal_(layer.weight, scale, generator)
            nn.init.zeros_(layer.bias)

    def turn(self, given: Tensor, state: Tensor) -> Tensor:
        """The next state [n, width], of Wx + b [n, 3 · width] and the state before [n, width]."""
        r_given, z_given, n_given = given.chunk(3, 1)
        r_back, z_back, n_back = self.back(state).chunk(3, 1)
        z = torch.sigmoid(z_given + z_back)
        n = torch.tanh(n_given + torch.sigmoid(r_given + r_back) * n_back)
        return n + z * (state - n)

    def forward(self, observations: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step: observations [n, …] and the state [n, width] to outputs [n, outputs] and the next state."""
        x = torch.tanh(self.first(observations))
        state = self.turn(self.into(x), state)
        return self.last(x + state), state

    def unroll(self, observations: Tensor, state: Tensor, goes_on: Tensor) -> tuple[Tensor, Tensor]:
        """Observations [steps, n, …] to outputs [steps, n, outputs] and the states [steps, n, width] after each step;
        the next step begins with a state of 0 where `goes_on` [steps, n] is 0."""
        x = torch.tanh(self.first(observations.flatten(0, 1))).unflatten(0, observations.shape[:2])
        given = self.into(x)
        if self.back._forward_pre_hooks or not x.is_cpu:
            states = self.one_by_one(given, state, goes_on)
        else:
            states = Steps.apply(given, self.back.weight, self.back.bias, state, goes_on[:, :, None])
        return self.last(x + states), states

    def one_by_one(self, given: Tensor, state: Tensor, goes_on: Tensor) -> Tensor:
        """All states [steps, n, width]: the plain twin of `Steps`, for a GPU and for who looks at what `back` takes."""
        states = []
        for step, on in zip(given, goes_on, strict=True):
            states.append(self.turn(step, state))
            state = states[-1] * on[:, None]
        return torch.stack(states)


class ActorCritic(nn.Module):
    """π(a | o) and V(o), in two networks of `width` that share nothing but the input.

    The input is what an environment shows, as `seen` says: codes [n, columns] or floats [n, size], which are scaled.
    With `memory`, both networks are `Recurrent`, and the state [n, 2 · width] is theirs; without, it is [n, 0].
    With two `returns` in place of one, values have one more dimension, of that size. The weights are drawn from
    `generator`.
    """

    def __init__(
        self,
        seen: Seen,
        actions: int,
        width: int,
        generator: torch.Generator | None = None,
        memory: bool = False,
        returns: int = 1,
    ) -> None:
        super().__init__()
        self.seen, self.actions, self.width, self.memory, self.returns = seen, actions, width, memory, returns
        self.scaled = Scaled(seen.size) if seen.members is None else None
        network = Recurrent if memory else perceptron
        self.actor = network(seen, width, actions, 0.01, generator)
        self.critic = network(seen, width, returns, 1.0, generator)

    def begin(self, copies: int) -> Tensor:
        """The state [copies, …] at the beginning of an episode."""
        return torch.zeros(copies, 2 * self.width * self.memory, device=next(self.parameters()).device)

    def forward(self, observations: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Observations [n, …] and the state to logits [n, actions], values [n] and the next state."""
        actor, critic = (self.begin(len(observations)) if state is None else state).chunk(2, 1)
        logits, actor = self._step(self.actor, observations, actor)
        values, critic = self._step(self.critic, observations, critic)
        return logits, values.squeeze(1), torch.cat([actor, critic], 1)

    def act(self, observations: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Observations [n, …] and the actor's half of the state to logits [n, actions] and its next half."""
        return self._step(self.actor, observations, state)

    def judge(self, observations: Tensor, state: Tensor, ended: Tensor) -> tuple[Tensor, Tensor]:
        """Observations [steps, n, …] from the critic's half of the state [n, …] on to values [steps, n] and its halves
        [steps, n, …] after each step. An episode that `ended` [steps, n] is followed by one without memory."""
        values, states = self._unroll(self.critic, observations, state, ended)
        return values.squeeze(2), states

    def unroll(self, observations: Tensor, state: Tensor, ended: Tensor) -> tuple[Tensor, Tensor]:
        """As `judge`, from the whole state [n, …] on: logits [steps, n, actions] and values [steps, n]."""
        actor, critic = state.chunk(2, 1)
        logits, _ = self._unroll(self.actor, observations, actor, ended)
        return logits, self.judge(observations, critic, ended)[0]

    def _step(self, network: nn.Module, observations: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        x = observations if self.scaled is None else self.scaled(observations)
        return network(x, state) if isinstance(network, Recurrent) else (network(x), state)

    def _unroll(self, network: nn.Module, observations: Tensor, state: Tensor, ended: Tensor) -> tuple[Tensor, Tensor]:
        x = observations if self.scaled is None else self.scaled(observations)
        if isinstance(network, Recurrent):
            return network.unroll(x, state, (~ended).float())
        return network(x.flatten(0, 1)).unflatten(0, ended.shape), state.expand(len(ended), *state.shape)


def width_of_equal_size(seen: Seen, actions: int, width: int, sparsity: float, memory: bool = False) -> int:
    """The width of the dense agent whose parameters come nearest to the living ones of a sparse agent of `width`."""
    hidden, biases = (
        (6, 14) if memory else (1, 4)
    )  # squares of weights of a hidden layer; rows of biases of both networks

    def size(w: int, density: float = 1.0) -> float:
        weights = 2 * (seen.size * w + hidden * w * w) + (actions + 1) * w
        return density * weights + biases * w + actions + 1

    return min(range(1, width + 1), key=lambda w: abs(size(w) - size(width, 1 - sparsity)))
