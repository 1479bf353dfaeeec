"""The network."""

from torch import nn

from gossamer_NAME.data import INPUTS, KINDS


def network(width: int) -> nn.Sequential:
    """Two hidden layers of so many units."""
    hidden = (nn.Linear(INPUTS, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return nn.Sequential(*hidden, nn.Linear(width, KINDS))


def small(width: int, sparsity: float) -> int:
    """The width of the dense network that has about as many weights as a sparse one of that width."""

    def weights(units: int) -> int:
        return units * (INPUTS + units + KINDS)

    return min(range(1, width + 1), key=lambda units: abs(weights(units) - (1 - sparsity) * weights(width)))
