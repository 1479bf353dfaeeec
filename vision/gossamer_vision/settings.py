"""What a run trains by: as its configuration says, or chosen from the number and the size of the images."""

from dataclasses import asdict, dataclass, field
from typing import Any

from gossamer_vision.config import Config
from gossamer_vision.data import Data


@dataclass(frozen=True)
class Settings:
    """The fields of `Config` of these names, none of them None; `reasons` say why those are so that were chosen."""

    sparsity: float
    width: float
    stem: int
    batch: int
    epochs: int
    fine_tune: int
    learning_rate: float
    shift: int
    every: int
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def chosen(self) -> dict[str, Any]:
        """What was chosen, by its name."""
        return {name: value for name, value in asdict(self).items() if name in self.reasons}


def settings(config: Config, data: Data) -> Settings:
    """The configuration's own settings; where it leaves one open, by the rules below.

    Of n training images: steps of n / 8 rounded down to a power of two, from 8 to 64; as many steps as show each image
    30 times, from 1,500 to 6,000; the rate 0.1 · √(batch / 64); shifts of a sixteenth of the side; forty moves of the
    topology, or one a step. Networks see half of the pixels a side from 28 pixels on. 32 channels and a sparsity of
    90 % stand whatever the images.
    """
    count, size = len(data.train), data.shape[-1]
    batch = config.batch or min(64, max(8, 1 << (max(1, count // 8).bit_length() - 1)))
    in_epoch = max(1, count // min(batch, count))
    steps = min(6000, max(1500, 30 * in_epoch))
    epochs = config.epochs or -(-steps // in_epoch)
    total = epochs * in_epoch
    shown = round(total * min(batch, count) / count)
    values: dict[str, tuple[Any, str]] = {
        "sparsity": (0.9, "nine weights in ten cost little accuracy; --sparsity 0.95 or 0.98 for smaller networks"),
        "width": (32.0, "wide enough that a tenth of the weights suffices"),
        "stem": (2 if size >= 28 else 1, f"images of {size} pixels a side"),
        "batch": (batch, f"an eighth of {count} training images, from 8 to 64"),
        "epochs": (
            epochs,
            f"{total:,} steps, each image {shown} times; 30 times, in 1,500 to 6,000 steps, is the aim",
        ),
        "fine_tune": (-(-epochs // 2), "half of the epochs"),
        "learning_rate": (round(0.1 * (batch / 64) ** 0.5, 4), f"for steps of {batch} images"),
        "shift": (size // 16, "a sixteenth of the side"),
        "every": (max(1, total // 40), "forty moves of the topology"),
    }
    own = {name: getattr(config, name) for name in values}
    reasons = {name: reason for name, (_, reason) in values.items() if own[name] is None}
    return Settings(
        **{name: values[name][0] if value is None else value for name, value in own.items()}, reasons=reasons
    )
