"""The walker over states of streams: every tensor once, in order, in the same classes."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from rounding import assert_same
from torch import Tensor

import speechattn as sa
from speechattn.stream_state import map_tensors, num_bytes, tensors


class Pair(NamedTuple):
    first: Tensor
    second: Any


@dataclass(frozen=True)
class State:
    name: str
    tree: tuple[Any, ...]


def test_a_tree_keeps_its_classes_and_everything_that_is_no_tensor() -> None:
    a, b, c = (torch.full((n,), float(n)) for n in (1, 2, 3))
    tree = State("x", (Pair(a, 7), (b, None, (Pair(c, "y"),)), ()))
    assert [len(x) for x in tensors(tree)] == [1, 2, 3] and num_bytes(tree) == 24
    mapped = map_tensors(len, tree)
    assert mapped == State("x", (Pair(1, 7), (2, None, (Pair(3, "y"),)), ()))  # type: ignore[arg-type]
    assert type(mapped.tree[0]) is Pair and tree.tree[0].first is a


def test_a_moved_state_of_a_model_goes_on() -> None:
    model = sa.load_pretrained("small-en-phones").double()
    waveform = 0.1 * torch.randn(1, 8000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    _, state = model.step(waveform[:, :4000], model.initial_state())
    moved = state.to("cpu", torch.float64)
    assert type(moved) is type(state) and type(moved.encoder) is type(state.encoder)
    assert moved.num_bytes == state.num_bytes == sum(x.nbytes for x in tensors(state))
    assert all(torch.equal(*pair) for pair in zip(tensors(moved), tensors(state), strict=True))
    assert_same(model.step(waveform[:, 4000:], moved)[0], model.step(waveform[:, 4000:], state)[0])
