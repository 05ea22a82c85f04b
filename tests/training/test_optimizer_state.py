"""An optimizer that was packed, saved, loaded and unpacked goes on bit for bit; another model's is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from speechattn.errors import UserError
from speechattn.training.checkpoint import load_checkpoint, save_checkpoint
from speechattn.training.optimizer_state import pack_optimizer, unpack_optimizer


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 5, generator=generator)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("options", [{}, {"amsgrad": True, "lr": torch.tensor(0.01)}, {"betas": (0.8, 0.9)}])
def test_an_optimizer_goes_on_as_if_never_stopped(tmp_path: Path, options: dict[str, Any]) -> None:
    def fresh() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        first, last = torch.nn.Linear(5, 3), torch.nn.Linear(3, 2)
        decayed: list[dict[str, Any]] = [
            {"params": [first.weight], "weight_decay": 0.3},
            {"params": [*last.parameters()]},
        ]
        return torch.nn.Sequential(first, last), torch.optim.AdamW(decayed, **options)

    model, optimizer = fresh()
    train(model, optimizer, seed=1)
    tensors, meta = pack_optimizer(optimizer)
    save_checkpoint(tmp_path, 3, {"model": model.state_dict(), "optimizer": tensors}, {"optimizer": meta})
    found = load_checkpoint(tmp_path)
    assert found is not None
    other, resumed = fresh()
    other.load_state_dict(found.tensors["model"])
    unpack_optimizer(resumed, found.tensors["optimizer"], found.state["optimizer"])
    assert resumed.param_groups[0]["betas"] == optimizer.param_groups[0]["betas"]
    before = {name: tensor.clone() for name, tensor in found.tensors["optimizer"].items()}
    train(model, optimizer, seed=2)
    train(other, resumed, seed=2)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert all(torch.equal(before[name], tensor) for name, tensor in found.tensors["optimizer"].items())


def test_a_fresh_optimizer_packs_too() -> None:
    optimizer = torch.optim.AdamW(torch.nn.Linear(2, 2).parameters())
    tensors, meta = pack_optimizer(optimizer)
    assert tensors == {}
    unpack_optimizer(optimizer, tensors, json.loads(json.dumps(meta)))
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize("model", [torch.nn.Linear(5, 4), torch.nn.Linear(5, 3, bias=False)])
def test_the_optimizer_of_another_model_is_refused(model: torch.nn.Module) -> None:
    trained = torch.nn.Linear(5, 3)
    optimizer = torch.optim.AdamW(trained.parameters())
    train(trained, optimizer, seed=1)
    with pytest.raises(UserError, match="belongs to another model"):
        unpack_optimizer(torch.optim.AdamW(model.parameters()), *pack_optimizer(optimizer))
