"""A model whose frontend had other mel bands was saved, and came back with the usual ones: its logits were 0.69 off.

Only the shapes of weights were compared, and settings have none. Half precision came back as float32.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rounding import assert_same, assert_same_weights
from torch import nn
from torch.nn.utils import parametrizations, prune

import speechattn as sa

CONTEXT = sa.Context.truncated(5, 2)
CONFIG = sa.ModelConfig(
    ("A", "B"),
    sa.EncoderConfig(13, d_model=8, num_heads=2, num_layers=1, context=CONTEXT, position_encoding="alibi"),
    num_mels=13,
)
SAMPLES = torch.sin(torch.arange(4000) ** 2 / 9000.0)[None] / 10


def build() -> Any:
    torch.manual_seed(0)
    return sa.SpeechModel(CONFIG).eval()


def set_filterbank(model: Any) -> None:
    model.frontend.filterbank = model.frontend.filterbank.flip(1)


def set_forward(model: Any) -> None:
    model.head.forward = lambda hidden, lengths=None: 3 * sa.FrameClassifier.forward(model.head, hidden, lengths)


CHANGES = {
    "bands": ("frontend", lambda m: setattr(m, "frontend", sa.LogMel(13, low_hz=500.0, high_hz=3000.0)), "low_hz=500"),
    "flavor": ("frontend", lambda m: setattr(m, "frontend", sa.LogMel(13, flavor="librosa")), "flavor='librosa'"),
    "window": ("frontend", lambda m: setattr(m, "frontend", sa.LogMel(13, sa.Framing(window=512))), "window=512"),
    "nan": ("frontend", lambda m: setattr(m, "frontend", sa.LogMel(13, nan_policy="zero")), "nan_policy='zero'"),
    "filterbank": ("frontend", set_filterbank, "another filterbank"),
    "context": (
        "encoder",
        lambda m: setattr(m.encoder.blocks[0].attention, "context", sa.Context.truncated(1, 1)),
        "blocks.0.attention.context=",
    ),
    "activation": (
        "encoder",
        lambda m: setattr(m.encoder.blocks[0].attention, "activation", "relu"),
        "activation='relu'",
    ),
    "norm": ("encoder", lambda m: setattr(m.encoder.norm, "eps", 0.1), "norm.eps=0.1"),
    "forward": ("head", set_forward, "forward="),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_part_with_other_settings_is_named_and_comes_back_when_it_is_given(tmp_path: Path, change: Any) -> None:
    part, apply, shown = CHANGES[change]
    model = build()
    apply(model)  # type: ignore[no-untyped-call]
    model.save(tmp_path)
    with pytest.raises(sa.UserError, match=rf"your own, {part} = speechattn\..* with .*{part}=\.\.\.\)\.$") as refused:
        sa.load(tmp_path)
    assert shown in str(refused.value)
    loaded = sa.load(tmp_path, **{part: getattr(model, part)})
    assert_same_weights(loaded, model)
    assert_same(loaded(SAMPLES)[0], model(SAMPLES)[0])


def test_what_changes_no_logits_needs_no_part_of_ones_own(tmp_path: Path) -> None:
    model = build().double().train()
    model.frontend.slab_frames = 7
    model.encoder.dropout.p = 0.5
    model.encoder.blocks[0].attention.backend = "dense"
    model.encoder.remark = "a name"
    model.save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()).keys() == {"format_version", "model"}
    fresh = build()
    fresh.encoder = sa.Encoder(CONFIG.encoder)  # which does not know the frontend's hop
    fresh.save(tmp_path)
    sa.load(tmp_path)


def prune_head(model: Any) -> None:
    prune.l1_unstructured(model.head.output, "weight", amount=0.5)  # type: ignore[no-untyped-call]


def parametrise_head(model: Any) -> None:
    parametrizations.weight_norm(model.head.output)


def wrap_head(model: Any) -> None:
    model.head = nn.Sequential(model.head)


@pytest.mark.parametrize("change", [prune_head, parametrise_head, wrap_head])
def test_pruned_parametrised_and_wrapped_parts_come_back_when_they_are_given(tmp_path: Path, change: Any) -> None:
    model = build()
    change(model)
    model.save(tmp_path)
    with pytest.raises(sa.UserError, match=r"with a module of your own, head = .*head=\.\.\.\)\.$"):
        sa.load(tmp_path)
    other = build()
    nn.init.ones_(other.head.output.weight)
    change(other)
    loaded = sa.load(tmp_path, head=other.head)
    hidden = torch.randn(1, 5, 8)
    assert_same_weights(loaded.head, model.head)
    assert_same(loaded.head(hidden), model.head(hidden))


def test_a_tensor_in_no_part_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = build()
    model.register_buffer("extra", torch.ones(3))
    with pytest.raises(sa.UserError, match=r"^extra is in none of the parts that are saved \(frontend, .*\.$"):
        model.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_comes_back_in_the_dtype_it_was_saved_in(tmp_path: Path, dtype: Any) -> None:
    model = build().to(dtype)
    model.save(tmp_path)
    loaded = sa.load(tmp_path)
    wanted = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    assert {name: tensor.dtype for name, tensor in loaded.state_dict().items()} == wanted
    assert loaded.frontend.filterbank.dtype == model.frontend.filterbank.dtype
    assert_same_weights(loaded, model)
    assert_same(loaded(SAMPLES)[0], model(SAMPLES)[0])


def test_dtypes_may_differ_from_part_to_part_and_parts_of_ones_own_follow(tmp_path: Path) -> None:
    model = build().half()
    model.head = nn.Sequential(nn.Linear(8, 2)).double()
    model.save(tmp_path)
    loaded = sa.load(tmp_path, head=copy.deepcopy(model.head).float())
    assert loaded.head[0].weight.dtype == torch.float64  # type: ignore[index]
    assert torch.equal(loaded.head[0].weight, model.head[0].weight)  # type: ignore[index]
    assert loaded.encoder.input.weight.dtype == torch.float16  # type: ignore[union-attr]
