"""icefall's encoder: against the signature of its EncoderInterface, since icefall itself is in no registry."""

from __future__ import annotations

import importlib
import inspect
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from speechattn.context import Context
from speechattn.errors import UserError


class EncoderInterface(nn.Module):
    """The interface as the recipes have it: the constructor's arguments, and `forward(x, x_lens)`."""

    def __init__(self, num_features: int, output_dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The integration, imported with the encoder_interface.py of a recipe, and removed again, as it depends on that."""
    recipe = ModuleType("encoder_interface")
    recipe.EncoderInterface = EncoderInterface  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "encoder_interface", recipe)
    yield importlib.import_module("speechattn.integrations.icefall")
    del sys.modules["speechattn.integrations.icefall"]


def small(adapter: ModuleType, **settings: object) -> Any:
    base = {"input_dim": 6, "d_model": 8, "num_heads": 2, "num_layers": 2, "dropout": 0.0, "context": Context(5, 3)}
    return adapter.SpeechAttnEncoder(**{**base, **settings}).double()


def test_it_is_an_encoder_interface_with_the_same_signature(adapter: ModuleType) -> None:
    model = small(adapter)
    assert isinstance(model, EncoderInterface) and isinstance(model.encoder, nn.Module)
    ours, theirs = (list(inspect.signature(c.forward).parameters) for c in (type(model), EncoderInterface))
    assert ours == theirs
    assert list(model.state_dict()) == [f"encoder.{name}" for name in model.encoder.state_dict()]


def test_lengths_shrink_with_the_stack_and_padding_changes_nothing(adapter: ModuleType) -> None:
    model = small(adapter, stack=2).eval()
    x = torch.randn(1, 21, 6, dtype=torch.float64)
    beside = torch.full((2, 40, 6), torch.nan, dtype=torch.float64)
    beside[0], beside[1, :21] = 1, x[0]
    output, lengths = model(beside, torch.tensor([40, 21]))
    assert output.shape == (2, 20, 8) and lengths.tolist() == [20, 10]
    assert torch.allclose(output[1, :10], model(x, torch.tensor([21]))[0][0], atol=1e-10)


def test_it_trains(adapter: ModuleType) -> None:
    model = small(adapter)
    x, wanted = torch.randn(2, 12, 6, dtype=torch.float64), torch.randn(2, 12, 8, dtype=torch.float64)
    optimizer, losses = torch.optim.Adam(model.parameters(), 1e-2), []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (model(x, torch.tensor([12, 12]))[0] - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2


def test_the_example_of_the_page_runs(adapter: ModuleType, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text()
    (example,) = re.findall(r"^```python needs=encoder_interface\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "example.py").write_text(example)
    left = runpy.run_path(str(tmp_path / "example.py"))
    assert left["output"].shape == (2, 75, 64) and left["lengths"].tolist() == [75, 50]


def test_outside_a_recipe_the_error_says_where_to_run() -> None:
    with pytest.raises(UserError, match=r"needs icefall's encoder_interface\.py, .* Run in a recipe's folder"):
        importlib.import_module("speechattn.integrations.icefall")
