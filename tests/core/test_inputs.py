"""What weights are multiplied with, checked against what the layers themselves give."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import gossamer as gs
from gossamer.inputs import columns_of, watching
from gossamer.layers import find_layers

CONVOLUTIONS = [
    nn.Conv1d(4, 6, 3, padding="same", padding_mode="circular"),
    nn.Conv2d(4, 6, 3, 2, 1, 2, 2),
    nn.Conv2d(4, 6, (3, 2), padding=1, padding_mode="reflect"),
    nn.Conv3d(4, 6, (1, 3, 2), (1, 2, 1), (0, 1, 2), (1, 1, 2), 2),
    nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2, dilation=2),
    nn.ConvTranspose2d(4, 6, (2, 3), (2, 1), 0, 0, 2),
    nn.ConvTranspose2d(4, 6, 1, 2, 1, 1),
    nn.ConvTranspose3d(4, 6, 3, (1, 2, 3), (0, 1, 2), (0, 1, 2)),
]


@pytest.mark.parametrize("conv", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("pattern", [gs.Unstructured(), gs.NofM(1, 2)], ids=str)
def test_a_convolution_is_the_product_of_its_columns_and_its_matrix(conv: Any, pattern: gs.Pattern) -> None:
    torch.manual_seed(0)
    model, parts = nn.Sequential(conv), []
    x = torch.randn(2, 4, *(9, 7, 8)[: len(conv.kernel_size)])
    turned = find_layers(model, ("*",), (), pattern)[0].turned(conv.weight)

    def see(name: str, rows: slice, x: Tensor) -> None:
        parts.append((rows, columns_of(model, name, x, pattern)))

    with torch.no_grad(), watching(model, ["0.weight"], see):
        y = model(x) - conv.bias.reshape(-1, *[1] * (x.dim() - 2))
    matrix = pattern.matrix(turned)
    whole = torch.cat([columns @ matrix[rows].T for rows, columns in parts], 1)
    assert torch.allclose(whole, y.movedim(1, -1).flatten(0, -2), atol=1e-5)
    assert torch.equal(pattern.unmatrix(matrix, turned.shape), turned)


def by_steps(cell: nn.RNNCellBase, x: Tensor, state: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The states before and after each step, x of (steps, batch, inputs)."""
    before, after = [], []
    for step in x:
        before.append(state[0] if isinstance(state, tuple) else state)
        state = cell(step, state)
        after.append(state[0] if isinstance(state, tuple) else state)
    return before, after


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("given", [False, True], ids=["from zero", "from a state"])
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_weights_see_inputs_and_states_before_each_step(kind: Any, given: bool, packed: bool) -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"rnn": kind(3, 4, 2, bidirectional=True)})
    rnn, cells = model["rnn"], {nn.RNN: nn.RNNCell, nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell}
    x, lengths = torch.randn(5, 2, 3), [3, 5] if packed else [5, 5]
    start = torch.randn(4, 2, 4) if given else torch.zeros(4, 2, 4)
    states = (start, torch.randn_like(start) if given else torch.zeros_like(start)) if kind is nn.LSTM else start
    found = {f"rnn.{name}": torch.zeros(1) for name in rnn._parameters if name.startswith("weight")}

    def see(name: str, rows: slice, x: Tensor) -> None:
        assert rows == slice(None)
        found[name] = x.T @ x

    with torch.no_grad(), watching(model, found, see):
        sequence = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False) if packed else x
        rnn(sequence, states) if given else rnn(sequence)
        grams = {name: torch.zeros_like(gram) for name, gram in found.items()}
        for b, length in enumerate(lengths):
            inputs = x[:length, b]
            for layer in range(2):
                outputs = []
                for direction, end in enumerate(("", "_reverse")):
                    cell = cells[kind](inputs.shape[1], 4)
                    for name, parameter in cell.named_parameters():
                        parameter.copy_(getattr(rnn, f"{name}_l{layer}{end}"))
                    k = 2 * layer + direction
                    own = tuple(s[k, b] for s in states) if isinstance(states, tuple) else states[k, b]
                    before, after = by_steps(cell, inputs.flip(0) if end else inputs, own)
                    outputs.append(torch.stack(after).flip(0) if end else torch.stack(after))
                    for own_name, seen in (
                        (f"weight_ih_l{layer}", inputs),
                        (f"weight_hh_l{layer}", torch.stack(before)),
                    ):
                        grams[f"rnn.{own_name}{end}"] += seen.T @ seen
                inputs = torch.cat(outputs, 1)
    for name, gram in grams.items():
        assert torch.allclose(found[name], gram, atol=1e-4), name


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("solver", ["sparsegpt", "wanda"])
@pytest.mark.parametrize(
    "make", [lambda: nn.LSTM(8, 8, 2, proj_size=4), lambda: nn.GRUCell(8, 8), lambda: nn.RNN(8, 8)]
)
def test_recurrent_blocks_are_pruned_and_what_cannot_be_seen_is_named(make: Any, solver: str) -> None:
    torch.manual_seed(0)

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = make(), nn.Linear(4 if getattr(make(), "proj_size", 0) else 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.rnn(x[0] if isinstance(self.rnn, nn.GRUCell) else x)
            return self.head(y[0] if isinstance(y, tuple) else y)

    model, batches = Tagger(), [torch.randn(5, 2, 8) for _ in range(3)]
    projected = getattr(model.rnn, "proj_size", 0) > 0
    if projected:
        with pytest.raises(
            gs.InputError, match=r"the inputs of rnn\.weight_hr_l0 in a LSTM cannot be seen: exclude it"
        ):
            gs.sparsify(copy.deepcopy(model), 0.5, score=gs.Wanda(batches))
    exclude = ("*weight_hr*",) if projected else ()
    masking = gs.prune_blocks(copy.deepcopy(model), batches, 0.5, blocks="rnn", solver=solver, exclude=exclude)
    assert masking.sparsity == 0.5 and all(name.startswith("rnn.weight_") for name in masking)
    assert gs.sparsify(model, 0.5, score=gs.Wanda(batches), exclude=exclude, distribution="uniform").sparsity == 0.5


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
def test_experts_see_the_tokens_that_they_are_routed(family: str) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    kind = {"mixtral": transformers.MixtralForCausalLM, "gpt_oss": transformers.GptOssForCausalLM}[family]
    config = kind.config_class(
        **sizes, head_dim=4, num_key_value_heads=1, num_local_experts=3, num_experts_per_tok=2, vocab_size=32
    )
    model = kind(config).eval()
    experts = model.model.layers[0].mlp.experts
    x, chosen = torch.randn(9, 8), torch.stack([torch.randperm(3)[:2] for _ in range(9)])
    down: list[Tensor] = [torch.empty(0)] * 3

    def see(name: str, rows: slice, x: Tensor) -> None:
        down[rows.start // 8] = x

    with torch.no_grad(), watching(experts, ["down_proj"], see):
        y = experts(x, chosen, torch.ones(9, 2))
        rebuilt = torch.zeros_like(y)
        for expert, seen in enumerate(down):
            weight = experts.down_proj[expert]
            bias = experts.down_proj_bias[expert] if family == "gpt_oss" else 0
            rebuilt[(chosen == expert).any(1)] += seen @ (weight if family == "gpt_oss" else weight.T) + bias
    assert torch.allclose(rebuilt, y, atol=1e-5)

    ids = torch.randint(32, (8, 16))
    for solver in ("sparsegpt", "wanda"):
        masking = gs.prune_blocks(copy.deepcopy(model), [ids], 0.5, pattern=gs.NofM(2, 4), solver=solver)
        mask = masking["model.layers.0.mlp.experts.gate_up_proj"]
        inputs = mask if family == "mixtral" else mask.mT  # of every expert, inputs last
        assert (inputs.unflatten(-1, (-1, 4)).sum(-1) == 2).all()
    with pytest.raises(gs.InputError, match=r"experts of .* got no token of the batches: pass more, or exclude it"):
        gs.prune_blocks(model, [ids[:1, :1]], 0.5)
