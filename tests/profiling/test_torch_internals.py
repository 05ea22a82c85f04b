"""Canary of private functions of torch: what fails here has changed in torch; adapt profiling/torch_internals.py."""

from __future__ import annotations

from typing import Any

import torch

from speechattn.profiling import torch_internals
from speechattn.profiling.torch_internals import TorchDispatchMode

HINT = "torch has changed: adapt speechattn/profiling/torch_internals.py"


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[tuple[str, int | None]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        node = torch_internals.running_backward_node()
        number = torch_internals.last_sequence_number() if node is None else torch_internals.sequence_number(node)
        self.seen.append((torch_internals.operator_name(func), number))
        return func(*args, **(kwargs or {}))


def test_views_share_the_address_of_their_storage() -> None:
    x = torch.zeros(4, 5)
    addresses = {torch_internals.storage_address(each) for each in (x, x[1], x.T)}
    assert len(addresses) == 1 and torch_internals.storage_address(torch.zeros(1)) not in addresses, HINT


def test_a_backward_node_has_the_number_of_its_forward_operator() -> None:
    weight = torch.ones(3, requires_grad=True)
    with Recorder() as recorder:
        product = weight * 2
        product.sum().backward()  # type: ignore[no-untyped-call]
    forward, backward = recorder.seen[0], [number for name, number in recorder.seen[1:] if name == "aten::mul"]
    assert forward[0] == "aten::mul" and backward == [forward[1]], HINT


def test_a_node_that_accumulates_a_gradient_has_the_reserved_number() -> None:
    weight = torch.ones(3, requires_grad=True)
    weight.grad = torch.zeros(3)
    with Recorder() as recorder:
        (weight * 2).sum().backward()  # type: ignore[no-untyped-call]
    assert torch_internals.ACCUMULATE_GRAD in [number for _, number in recorder.seen], HINT
