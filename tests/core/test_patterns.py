import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gossamer as gs
from gossamer.patterns import Pattern, best

SCORES = torch.tensor([[9.0, 1.0, 8.0, 2.0], [3.0, 7.0, 4.0, 6.0]])


def rows(mask: torch.Tensor) -> list[list[int]]:
    return mask.int().tolist()


@pytest.mark.parametrize(
    ("pattern", "count", "expected"),
    [
        (gs.Unstructured(), 3, [[1, 0, 1, 0], [0, 1, 0, 0]]),
        (gs.NofM(1, 2), 4, [[1, 0, 1, 0], [0, 1, 0, 1]]),
        (gs.NofM(2, 4), 4, [[1, 0, 1, 0], [0, 1, 0, 1]]),
        (gs.NofM(1, 4), 2, [[1, 0, 0, 0], [0, 1, 0, 0]]),
        (gs.NofM(3, 4), 6, [[1, 0, 1, 1], [0, 1, 1, 1]]),
        (gs.Block(2, 1), 4, [[1, 0, 1, 0], [1, 0, 1, 0]]),  # column means 6, 4, 6, 4
        (gs.Block(1, 2), 4, [[1, 1, 1, 1], [0, 0, 0, 0]]),  # pair means 5, 5, 5, 5: the lower indices
        (gs.Block(2, 2), 4, [[1, 1, 0, 0], [1, 1, 0, 0]]),
        (gs.FanIn(), 4, [[1, 0, 1, 0], [0, 1, 0, 1]]),
        (gs.FanIn(), 2, [[1, 0, 0, 0], [0, 1, 0, 0]]),
        (gs.Channel(), 4, [[1, 1, 1, 1], [0, 0, 0, 0]]),  # row means 5, 5
    ],
)
def test_masks_worked_out_by_hand(pattern: Pattern, count: int, expected: list[list[int]]) -> None:
    assert rows(pattern.mask(SCORES, count)) == expected


def test_ties_go_to_the_lower_index() -> None:
    level = torch.zeros(2, 4)
    assert rows(gs.Unstructured().mask(level, 3)) == [[1, 1, 1, 0], [0, 0, 0, 0]]
    assert rows(gs.NofM(2, 4).mask(level, 4)) == [[1, 1, 0, 0], [1, 1, 0, 0]]
    assert rows(gs.Block(2, 1).mask(level, 4)) == [[1, 1, 0, 0], [1, 1, 0, 0]]
    assert rows(gs.FanIn().mask(level, 2)) == [[1, 0, 0, 0], [1, 0, 0, 0]]
    assert rows(gs.Channel().mask(level, 4)) == [[1, 1, 1, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("pattern", "count", "kept"),
    [
        (gs.Block(2, 2), 5, 4),
        (gs.Block(2, 2), 6, 4),  # 4 and 8 are as near: the sparser
        (gs.Block(2, 2), 7, 8),
        (gs.Block(2, 2), 1, 4),  # one block lives where anything does
        (gs.Block(2, 2), 0, 0),
        (gs.FanIn(), 5, 4),
        (gs.FanIn(), 7, 8),
        (gs.FanIn(), 0, 2),  # every neuron keeps an input
        (gs.Channel(), 0, 4),  # one channel lives
        (gs.Channel(), 7, 8),
        (gs.NofM(2, 4), 3, 3),
    ],
)
def test_the_nearest_count_that_the_pattern_can_express(pattern: Pattern, count: int, kept: int) -> None:
    assert int(pattern.mask(SCORES, count).sum()) == kept


def test_convolution_blocks_span_output_channels_at_one_kernel_position() -> None:
    scores = torch.zeros(8, 2, 1, 2)
    scores[4:, 1, 0, 1] = 1
    mask = gs.Block(4, 1).mask(scores, 4)
    assert mask.sum() == 4
    assert mask[4:, 1, 0, 1].all()


def test_a_shape_that_blocks_do_not_divide_has_ragged_last_blocks() -> None:
    scores = torch.tensor([[1.0, 1, 5], [1, 1, 5], [6, 6, 9]])  # blocks of 2 × 2: 1 | 5 over 6 | 9
    assert rows(gs.Block(2, 2).mask(scores, 1)) == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert rows(gs.Block(2, 2).mask(scores, 3)) == [[0, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert rows(gs.Block(2, 2).mask(scores, 5)) == [[0, 0, 1], [0, 0, 1], [1, 1, 1]]


def test_a_ragged_block_fills_the_count_where_a_whole_one_is_too_large() -> None:
    scores = torch.tensor([[9.0, 8, 1], [9, 8, 1], [2, 2, 2]])  # whole columns of two above ragged ones of one
    assert rows(gs.Block(2, 1).mask(scores, 5)) == [[1, 1, 0], [1, 1, 0], [1, 0, 0]]


def test_half_precision_and_whole_number_scores() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.int64):
        for pattern in (gs.Unstructured(), gs.Block(2, 1), gs.FanIn(), gs.Channel(), gs.NofM(2, 4)):
            assert torch.equal(pattern.mask(SCORES.to(dtype), 4), pattern.mask(SCORES, 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gs.NofM(3, 2), r"NofM\(3, 2\) needs 0 < n <= m"),
        (lambda: gs.NofM(0, 2), r"needs 0 < n <= m"),
        (lambda: gs.Block(0, 1), r"it must be a whole number of at least 1"),
        (lambda: gs.NofM(2, 3).mask(SCORES, 4), r"\(2, 4\) has 4 inputs, which NofM\(2, 3\) does not divide"),
        (lambda: gs.NofM(1, 2).mask(SCORES, 5), r"keeps at most 4 of 8 weights, not 5"),
        (lambda: gs.Unstructured().mask(SCORES, 9), r"count is 9; .* keeps 0 to 8"),
        (lambda: gs.Unstructured().mask(SCORES, -1), r"count is -1"),
        (lambda: gs.Unstructured().mask(torch.zeros(3), 1), r"2 or more dimensions"),
        (lambda: gs.Unstructured().mask(torch.full((2, 2), math.nan), 1), r"scores hold NaN"),
    ],
)
def test_what_cannot_be_is_named(make, message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        make()


shapes = st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(1, 3))
levels = st.integers(1, 4)  # few distinct scores make many ties


def draw(shape: tuple[int, ...], distinct: int, seed: int) -> torch.Tensor:
    return torch.randint(distinct, shape, generator=torch.Generator().manual_seed(seed)).float()


@given(shapes, levels, st.integers(0, 999), st.data())
@settings(max_examples=100, deadline=None)
def test_unstructured_keeps_exactly_the_count_and_the_first_of_the_best(shape, distinct, seed, data) -> None:
    scores = draw(shape, distinct, seed)
    count = data.draw(st.integers(0, scores.numel()))
    mask = gs.Unstructured().mask(scores, count)
    order = scores.flatten().argsort(descending=True, stable=True)
    assert mask.shape == scores.shape
    assert mask.flatten().nonzero().squeeze(1).tolist() == sorted(order[:count].tolist())


@given(shapes, levels, st.integers(1, 4), st.integers(1, 4), st.integers(0, 999), st.data())
@settings(max_examples=100, deadline=None)
def test_blocks_are_whole_and_within_a_block_of_the_count(shape, distinct, out, in_, seed, data) -> None:
    scores = draw(shape, distinct, seed)
    count = data.draw(st.integers(0, scores.numel()))
    matrix = gs.Block(out, in_).mask(scores, count).flatten(1)
    for block in (b for band in matrix.split(out) for b in band.split(in_, dim=1)):
        assert block.all() or not block.any()
    assert abs(int(matrix.sum()) - count) < out * in_
    if matrix.shape[0] % out == 0 and matrix.shape[1] % in_ == 0 and count >= out * in_:
        assert abs(int(matrix.sum()) - count) * 2 <= out * in_


@given(shapes, levels, st.integers(0, 999), st.data())
@settings(max_examples=50, deadline=None)
def test_every_neuron_has_the_same_fan_in(shape, distinct, seed, data) -> None:
    scores = draw(shape, distinct, seed)
    count = data.draw(st.integers(0, scores.numel()))
    fan_in = gs.FanIn().mask(scores, count).flatten(1).sum(1)
    assert len(set(fan_in.tolist())) == 1
    assert fan_in[0] == 1 or abs(int(fan_in.sum()) - count) * 2 <= len(scores)


@given(st.integers(1, 4), st.integers(0, 4), st.integers(1, 6), st.integers(0, 999))
@settings(max_examples=50, deadline=None)
def test_n_of_every_m(n, extra, groups, seed) -> None:
    m = n + extra
    scores = draw((3, groups * m), 5, seed)
    mask = gs.NofM(n, m).mask(scores, scores.numel() * n // m)
    assert (mask.reshape(-1, m).sum(1) == n).all()
    worst_kept = scores.reshape(-1, m).masked_fill(~mask.reshape(-1, m), math.inf).amin(1)
    best_lost = scores.reshape(-1, m).masked_fill(mask.reshape(-1, m), -math.inf).amax(1)
    assert (worst_kept >= best_lost).all()


def test_n_of_every_m_input_channels_at_one_kernel_position_as_asp_has_it() -> None:
    # (out 1, in 4, 1 × 2): input channels 1 2 3 4 at the left position and 8 7 6 5 at the right.
    scores = torch.tensor([[1.0, 8], [2, 7], [3, 6], [4, 5]]).reshape(1, 4, 1, 2)
    assert gs.NofM(2, 4).mask(scores, 4).reshape(4, 2).int().tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]]
    # ASP's create_mask: permute(2, 3, 0, 1), m of n along the last axis, and back
    weight = draw((6, 8, 3, 3), 1000, 0)
    matrix = weight.permute(2, 3, 0, 1).reshape(-1, 8)
    asp = torch.zeros_like(matrix).view(-1, 4).scatter(1, matrix.view(-1, 4).topk(2).indices, 1)
    mask = gs.NofM(2, 4).mask(weight, weight.numel() // 2)
    groups = mask.permute(2, 3, 0, 1).reshape(-1, 4)
    assert (groups.sum(1) == 2).all()
    kept = matrix.view(-1, 4)
    assert torch.equal((kept * groups).sum(1), (kept * asp).sum(1))  # the same but for ties
    with pytest.raises(gs.InputError, match="has 3 inputs, which NofM"):
        gs.NofM(2, 4).mask(torch.zeros(4, 3, 2, 2), 24)


@given(shapes, levels, st.integers(0, 999), st.data())
@settings(max_examples=50, deadline=None)
def test_whole_channels_nearest_the_count(shape, distinct, seed, data) -> None:
    scores = draw(shape, distinct, seed)
    count = data.draw(st.integers(0, scores.numel()))
    channels = gs.Channel().mask(scores, count).flatten(1)
    assert torch.equal(channels.any(1), channels.all(1))
    size = scores[0].numel()
    assert int(channels.sum()) == size or abs(int(channels.sum()) - count) * 2 <= size


def test_infinite_scores_keep_and_drop() -> None:
    scores = torch.tensor([[1.0, 2.0], [math.inf, -math.inf]])
    assert rows(best(scores, 2)) == [[0, 1], [1, 0]]
    assert rows(best(scores, 3)) == [[1, 1], [1, 0]]
