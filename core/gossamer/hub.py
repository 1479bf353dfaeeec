"""Sparse models on the Hugging Face Hub: `save_pretrained`, `from_pretrained`, `push_to_hub` with our small files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

from torch import Tensor, nn

from gossamer import files
from gossamer.errors import InputError
from gossamer.files.coding import Values

try:
    from huggingface_hub import ModelHubMixin, hf_hub_download
except ModuleNotFoundError as error:
    raise InputError('gossamer.hub needs huggingface_hub. Run: pip install "gossamer[integrations]"') from error

FILE = "gossamer.safetensors"


class SparseModelHubMixin(ModelHubMixin, library_name="gossamer", tags=["sparsity"]):
    """Mixed into an `nn.Module`, stores it in a folder or a Hub repository as a file of `gossamer.save`.

        class Net(nn.Module, SparseModelHubMixin): ...

        net.hub_masks = masking.masks         # optional: without it the non-zeros are the topology
        net.save_pretrained("folder")         # or net.push_to_hub("owner/name")
        net = Net.from_pretrained("folder")   # or "owner/name"; in evaluation mode, hub_masks those of the file

    The arguments of `__init__` travel in config.json. Loading never unpickles; a file that is not whole, or not of this
    model, raises `InputError`. The bases may stand in either order. `hub_values` is the `values` of `gossamer.save`.
    """

    hub_masks: Mapping[str, Tensor] | None = None
    hub_values: Values = "float32"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Have the last word on saving and loading, also after a base that saves dense files of its own."""
        super().__init_subclass__(**kwargs)
        for name in ("save_pretrained", "from_pretrained", "push_to_hub"):
            if name not in vars(cls):
                setattr(cls, name, vars(ModelHubMixin)[name])

    def _save_pretrained(self, save_directory: Path) -> None:
        model = cast(nn.Module, self)
        files.save(model, Path(save_directory) / FILE, masks=self.hub_masks, values=self.hub_values)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **model_kwargs: Any,
    ) -> Self:
        path = Path(model_id) / FILE
        if not Path(model_id).is_dir():
            where = {"revision": revision, "cache_dir": cache_dir, "token": token}
            path = hf_hub_download(
                model_id, FILE, force_download=force_download, local_files_only=local_files_only, **where
            )
        model = cls(**model_kwargs)
        model.hub_masks = files.load(path, cast(nn.Module, model))
        cast(nn.Module, model).eval()
        return model
