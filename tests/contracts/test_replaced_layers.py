"""Layers whose `weight` is no tensor, or one that a hook computes: an encoder asks none of them for it.

int8 by quantize_dynamic has a method `weight`, what wraps a layer has none, and pruning, weight_norm and spectral_norm
make it anew in every call.
"""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.convolution import FramesConvolution
from speechattn.encoder.convolution_as_attention import attention_from_convolution, convolution_from_attention
from speechattn.errors import UserError
from speechattn.export.export import export
from speechattn.framing import Framing
from speechattn.model_config import ModelConfig
from speechattn.models.heads import FrameClassifier
from speechattn.models.speech_model import SpeechModel
from speechattn.streaming.long_form import encode_long
from speechattn.streaming.stream import Stream

ROUNDING = 1e-5
"""float32; of logits about 1."""
INT8 = 0.1
"""A layer scales its input by the largest number of a call, so a push is rounded otherwise than the whole."""
WAVEFORM = torch.randn(1, 600, generator=torch.Generator().manual_seed(1)) / 10
KINDS = [("transformer", "none"), ("transformer", "alibi"), ("transformer", "relative"), ("conformer", "rotary")]


class Wrapped(nn.Module):
    """A linear layer as adapters of low rank hold it."""

    def __init__(self, base_layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.change = nn.Linear(base_layer.in_features, base_layer.out_features, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + 0.1 * self.change(x)  # type: ignore[no-any-return]


def wrapped(model: nn.Module) -> Any:
    for name, layer in list(model.named_modules()):
        if type(layer) is nn.Linear:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, Wrapped(layer))
    return model


def changed(change: Callable[[nn.Module], object]) -> Callable[[nn.Module], nn.Module]:
    def every(model: nn.Module) -> nn.Module:
        for layer in list(model.modules()):
            if isinstance(layer, nn.Linear | nn.Conv1d):
                change(layer)
        return model

    return every


CHANGES = {
    "wrapped": wrapped,
    "pruned": changed(lambda layer: prune.l1_unstructured(layer, "weight", 0.3)),  # type: ignore[no-untyped-call]
    "weight norm": changed(parametrizations.weight_norm),
    "spectral norm": changed(parametrizations.spectral_norm),
}


def quantized(model: nn.Module) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # torchao replaces it, one day
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)  # deprecated from torch 2.14 on
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)  # type: ignore[no-untyped-call]


def model(block: str = "transformer", position_encoding: str = "none") -> SpeechModel:
    torch.manual_seed(0)
    encoder = EncoderConfig(
        8,
        d_model=16,
        num_heads=2,
        num_layers=2,
        block=block,
        position_encoding=position_encoding,
        context=Context.truncated(6, 2),
        conv_kernel=5,
    )
    framing = Framing(1000, 25, 10)
    return SpeechModel(ModelConfig(("SIL", "AA", "B"), encoder, num_mels=8, framing=framing)).eval()


def check_streams(model: SpeechModel, close: float) -> None:
    """Stream, encode_long and the whole at once agree, and the model can be printed."""
    with torch.no_grad():
        whole, _ = model(WAVEFORM)
        state, parts = model.initial_state(), []
        for push in WAVEFORM.split(171, 1):  # type: ignore[no-untyped-call]
            logits, state = model.step(push, state)
            parts.append(logits)
        assert (torch.cat([*parts, model.flush(state)], 1) - whole).abs().max() < close
    stream = Stream(model)
    assert len(stream.push(WAVEFORM[0]) + stream.flush()) == 60
    assert (torch.cat(list(encode_long(model, WAVEFORM[0], progress=False))) - whole[0]).abs().max() < close
    assert "SelfAttention" in repr(model) or "FramesConvolution" in repr(model)


@pytest.mark.parametrize(("block", "position_encoding"), [*KINDS, ("cnn", "none")])
@pytest.mark.parametrize("change", CHANGES)
def test_a_model_of_replaced_layers_streams_and_learns(change: str, block: str, position_encoding: str) -> None:
    changed = CHANGES[change](model(block, position_encoding)).eval()
    check_streams(changed, ROUNDING)
    optimizer = torch.optim.SGD(changed.parameters(), 0.1)
    labels, losses = torch.ones(1, 60, dtype=torch.int64), []
    for _ in range(3):  # a weight kept from before the last step would fail or stand still
        loss = FrameClassifier.loss(changed(WAVEFORM)[0], labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > losses[1] > losses[2]
    check_streams(changed.eval(), ROUNDING)


@pytest.mark.parametrize(("block", "position_encoding"), KINDS)
def test_an_int8_model_streams_near_the_float_model(block: str, position_encoding: str, tmp_path: Path) -> None:
    plain = model(block, position_encoding)
    int8 = quantized(plain)
    check_streams(int8, INT8)
    assert (int8(WAVEFORM)[0] - plain(WAVEFORM)[0]).abs().max() < INT8
    written = encode_long(int8, WAVEFORM[0], tmp_path / "logits.npy", progress=False)
    assert written.shape == (60, 3)
    attention = int8.encoder.blocks[0].attention  # without a float parameter of its own
    output, _ = attention.step(torch.randn(1, 9, 16), attention.initial_state())
    assert output.shape == (1, 7, 16)


def test_what_an_int8_model_cannot_is_said_in_one_line(tmp_path: Path) -> None:
    int8 = quantized(model())
    for call, message in (
        (lambda: int8.save(tmp_path / "model"), "is no tensor.* quantised|quantised .* is no tensor"),
        (
            lambda: export(int8, 4, tmp_path / "step.pt2", "torch"),
            "a quantised model cannot be exported .*: export the float model",
        ),
    ):
        with pytest.raises(UserError, match=message):
            call()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_model_of_replaced_layers_is_exported(tmp_path: Path) -> None:
    assert export(wrapped(model("conformer", "alibi")), 4, tmp_path / "step.pt2", "torch") < ROUNDING
    pruned = CHANGES["pruned"](model())
    with pytest.raises(UserError, match=r"cannot be copied: .*prune\.remove"):
        export(pruned, 4, tmp_path / "pruned.pt2", "torch")
    for layer in pruned.modules():
        if prune.is_pruned(layer) and isinstance(layer, nn.Linear):
            prune.remove(layer, "weight")  # type: ignore[no-untyped-call]
    assert export(pruned, 4, tmp_path / "pruned.pt2", "torch") < ROUNDING


def test_a_pruned_convolution_uses_its_mask() -> None:
    layer = FramesConvolution(4, Context.truncated(2, 1))
    prune.random_unstructured(layer.kernel, "weight", 0.5)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        layer.kernel.weight_orig.mul_(2)  # type: ignore[operator]
    frames = torch.randn(1, 9, 4)
    weight = layer.kernel.weight_orig * layer.kernel.weight_mask  # type: ignore[operator]
    padded = nn.functional.pad(frames.mT, (2, 1))
    expected = nn.functional.conv1d(padded, weight, layer.kernel.bias, groups=4).mT
    assert (layer(frames) - expected).abs().max() < ROUNDING


def test_a_convolution_is_read_off_wrapped_attention() -> None:
    conv = nn.Conv1d(3, 3, 3, padding=1)
    same = attention_from_convolution(conv)
    frames = torch.randn(1, 20, 3)
    plain = convolution_from_attention(same.attention, same.widen(frames))
    attention = copy.deepcopy(same.attention)
    attention.output = Wrapped(attention.output)  # type: ignore[assignment]
    attention.output.change.weight.data.zero_()  # type: ignore[operator, union-attr]
    wrapped = convolution_from_attention(attention, same.widen(frames))
    assert (wrapped.weight - plain.weight).abs().max() < ROUNDING
    assert (plain.weight[:3, :3] - conv.weight).abs().max() < ROUNDING
