import importlib
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import gossamer as gs

METHODS = {
    "rigl": lambda masking: gs.RigL(masking, every=2, until=99),
    "granet": lambda masking: gs.GraNet(masking, 0.9, every=2, until=9),
    "none": lambda masking: None,
}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], value) for name, value in other.items())


class TestLightning:
    """Quick trainings by the real Trainer."""

    pytestmark = pytest.mark.filterwarnings(
        "ignore:`isinstance\\(treespec, LeafSpec\\)` is deprecated",
        "ignore:The 'train_dataloader' does not have many workers",
        "ignore:Checkpoint directory .* exists and is not empty",
    )

    def fit(
        self, folder: Path, method: str, steps: int, resume: Path | None = None, rows: int = 4, manual=False, **options
    ):
        """One batch makes an epoch, for Lightning goes on with the first batch where it left off within an epoch."""
        lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
        from lightning.pytorch.callbacks import ModelCheckpoint

        from gossamer.integrations.lightning import MaskingCallback

        class Module(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(0)
                self.network = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4))

                self.automatic_optimization = not manual

            def training_step(self, batch, index):
                loss = (self.network(batch[0]) - 1).square().mean()
                if manual:
                    optimizer = self.optimizers()
                    for _ in range(2):
                        optimizer.zero_grad()
                        self.manual_backward((self.network(batch[0]) - 1).square().mean())
                        optimizer.step()
                return loss

            def on_before_optimizer_step(self, optimizer):
                for name, part in masking.parts.items():
                    assert not part.parameter.grad[~masking.masks[name]].any()

            def configure_optimizers(self):
                return torch.optim.AdamW(self.parameters(), lr=1e-2)

        module = Module()
        score = "magnitude" if resume is None else "random"  # a resumed run has masks of its own at first
        masking = gs.sparsify(module.network, 0.7, score=score)
        callback = MaskingCallback(masking, METHODS[method](masking))
        data = torch.randn(rows, 6, generator=torch.Generator().manual_seed(1))
        saving = ModelCheckpoint(folder, filename="{step}", every_n_epochs=1, save_top_k=-1)
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_steps=steps,
            callbacks=[saving, callback],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **options,
        )
        trainer.fit(module, DataLoader(TensorDataset(data), batch_size=4), ckpt_path=resume)
        return module, masking, trainer

    @pytest.mark.parametrize("method", METHODS)
    def test_training_resumes_to_the_same_bits(self, tmp_path: Path, method: str) -> None:
        whole, masks, _ = self.fit(tmp_path, method, 9)
        assert masks.steps == 9
        assert masks.sparsity == pytest.approx(0.9 if method == "granet" else 0.7, abs=0.01)
        assert all(not part.weight[~part.mask].any() for part in masks.parts.values())
        resumed, others, _ = self.fit(tmp_path, method, 9, resume=tmp_path / "step=3.ckpt")
        assert same(resumed.state_dict(), whole.state_dict())
        assert same(others.masks, masks.masks)
        assert others.steps == 9

    def test_accumulated_batches_are_one_step(self, tmp_path: Path) -> None:
        _, masking, trainer = self.fit(tmp_path, "rigl", 4, rows=16, accumulate_grad_batches=2)
        assert masking.steps == trainer.global_step == 4
        assert masking.sparsity == pytest.approx(0.7, abs=0.01)

    def test_every_step_of_manual_optimization_counts(self, tmp_path: Path, monkeypatch) -> None:
        moved = []

        class Told(gs.RigL):
            def update(self):
                moved.append(self.seen)
                super().update()

        monkeypatch.setitem(METHODS, "told", lambda masking: Told(masking, every=3, until=99))
        _, masking, trainer = self.fit(tmp_path, "told", 6, rows=12, manual=True)
        assert masking.steps == trainer.global_step == 6
        assert moved == [3, 6]

    def test_a_masking_of_another_module_is_told(self, tmp_path: Path) -> None:
        lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
        from gossamer.integrations.lightning import MaskingCallback

        callback = MaskingCallback(gs.sparsify(nn.Linear(4, 4), 0.5))
        trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        with pytest.raises(gs.InputError, match="no optimizer of the trainer holds a masked parameter"):
            callback.on_train_start(trainer, lightning.LightningModule())


def test_fabrics_optimizer_is_attached_to() -> None:
    fabric_module = pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed")
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4))
    masking = gs.sparsify(model, 0.7)
    wrapped, optimizer = fabric.setup(model, torch.optim.AdamW(model.parameters(), weight_decay=0.1))
    method = gs.RigL(masking.attach(optimizer), every=2, until=99)
    for k in range(6):
        optimizer.zero_grad()
        fabric.backward((wrapped(torch.randn(4, 6)) - 1).square().mean())
        fabric.clip_gradients(wrapped, optimizer, max_norm=1.0)
        optimizer.step()
        assert method.step() == (k % 2 == 1)
        if k == 3:
            optimizer.load_state_dict(optimizer.state_dict())
    assert masking.steps == 6
    for part in masking.parts.values():
        assert not part.weight[~part.mask].any()
        moments = optimizer.optimizer.state[part.parameter]
        assert moments["exp_avg"].any()
        assert not moments["exp_avg"][~part.mask].any()


class Sequences(Dataset):
    """Random tokens, each the label of the one before it."""

    def __init__(self) -> None:
        self.tokens = torch.randint(64, (32, 8), generator=torch.Generator().manual_seed(1))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


class TestTransformers:
    """Quick trainings of a tiny Llama by the real Trainer."""

    def fit(self, folder: Path, method: str, steps: int, resume: Path | None = None, **options):
        transformers = pytest.importorskip("transformers", reason="transformers is not installed")
        pytest.importorskip("accelerate", reason="accelerate is not installed")
        from gossamer.integrations.transformers import MaskingCallback

        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
        transformers.set_seed(0)
        config = transformers.LlamaConfig(vocab_size=64, num_key_value_heads=2, tie_word_embeddings=True, **sizes)
        model = transformers.LlamaForCausalLM(config)
        masking = gs.sparsify(model, 0.7, score="magnitude" if resume is None else "random", distribution="uniform")
        callback = MaskingCallback(masking, METHODS[method](masking))
        arguments = transformers.TrainingArguments(
            output_dir=str(folder),
            max_steps=steps,
            per_device_train_batch_size=4,
            learning_rate=1e-2,
            save_steps=3,
            logging_steps=3,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **options,
        )
        data = Sequences()
        trainer = transformers.Trainer(model, arguments, train_dataset=data, eval_dataset=data, callbacks=[callback])
        trainer.train(resume_from_checkpoint=resume and str(resume))
        return model, masking, trainer

    @pytest.mark.parametrize("method", METHODS)
    def test_training_resumes_to_the_same_bits(self, tmp_path: Path, method: str) -> None:
        whole, masks, _ = self.fit(tmp_path, method, 9)
        assert masks.steps == 9
        assert masks.sparsity == pytest.approx(0.9 if method == "granet" else 0.7, abs=0.01)
        assert all(not part.weight[~part.mask].any() for part in masks.parts.values())
        resumed, others, _ = self.fit(tmp_path, method, 9, resume=tmp_path / "checkpoint-3")
        assert same(resumed.state_dict(), whole.state_dict())
        assert same(others.masks, masks.masks)
        assert others.steps == 9

    def test_accumulated_batches_are_one_step(self, tmp_path: Path) -> None:
        _, masking, trainer = self.fit(tmp_path, "rigl", 4, gradient_accumulation_steps=2)
        assert masking.steps == trainer.state.global_step == 4

    def test_masks_of_another_run_are_refused(self, tmp_path: Path) -> None:
        _, one, _ = self.fit(tmp_path / "one", "none", 3)
        with pytest.raises(gs.InputError, match="cannot be read"):
            self.fit(tmp_path / "none", "none", 6, resume=tmp_path / "one" / "checkpoint-3")
        self.fit(tmp_path / "other", "granet", 3)  # its masks are others by now
        with pytest.raises(gs.InputError, match="are not those of the weights"):
            self.fit(tmp_path / "other", "none", 6, resume=tmp_path / "one" / "checkpoint-3")
        named = {"resume_from_checkpoint": str(tmp_path / "one" / "checkpoint-3")}
        _, masking, _ = self.fit(tmp_path / "other", "none", 6, resume=tmp_path / "one" / "checkpoint-3", **named)
        assert same(masking.masks, one.masks)

    def test_the_best_model_comes_back_with_its_own_masks(self, tmp_path: Path) -> None:
        options = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 3, "greater_is_better": True}
        model, masking, trainer = self.fit(tmp_path, "granet", 9, metric_for_best_model="loss", **options)
        best = Path(trainer.state.best_model_checkpoint)
        assert best.name == "checkpoint-3"  # the highest loss
        assert masking.sparsity < 0.89
        assert all(not part.weight[~part.mask].any() for part in masking.parts.values())
        from safetensors.torch import load_file

        saved = load_file(best / "model.safetensors")
        for name, value in model.state_dict().items():
            if name in saved:
                assert torch.equal(saved[name], value)


@pytest.mark.parametrize("trainer", ["lightning", "transformers"])
def test_a_callback_of_something_else_is_refused(trainer: str) -> None:
    pytest.importorskip(trainer, reason=f"{trainer} is not installed")
    callback = importlib.import_module(f"gossamer.integrations.{trainer}").MaskingCallback
    model = nn.Linear(4, 4)
    with pytest.raises(gs.InputError, match="masking is a Linear; it must be the masking"):
        callback(model)
    with pytest.raises(gs.InputError, match="method is 'rigl'"):
        callback(gs.sparsify(model, 0.5), "rigl")
