"""Devices, mixed precision and several processes, by Lightning Fabric."""

import os
from typing import TYPE_CHECKING, Any, cast

from gossamer.errors import InputError, one_of

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def fabric(accelerator: str = "cpu", precision: str = "32-true") -> "Fabric":
    """A launched Fabric on one device, or on one for each process where torchrun has started several.

    `accelerator` is what Fabric calls it ("cpu", "cuda", "mps", "auto"), `precision` one of `PRECISIONS`. Raises
    `InputError` for an accelerator that is not there and for a precision that it does not have.
    """
    one_of(PRECISIONS, precision=precision)
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.utilities.exceptions import MisconfigurationException
    except ModuleNotFoundError as error:
        raise InputError('training needs lightning-fabric; type: pip install "gossamer[all]"') from error
    try:
        made = Fabric(
            accelerator=accelerator,
            precision=cast(Any, precision),
            devices=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
            num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", 1)),
        )
    except (ValueError, RuntimeError, ModuleNotFoundError, MisconfigurationException) as error:
        reason = str(error).split(". ")[0].rstrip(".")
        raise InputError(
            f"accelerator is {accelerator!r}, with precision {precision!r}: {reason}; choose cpu or auto."
        ) from error
    made.launch()
    return made
