"""Parts given to `sa.train` in code: a block, an encoder, a head and an augmentation, through kill, save and load."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

import speechattn as sa
from speechattn.models.heads import FrameClassifier
from speechattn.training.run import run
from speechattn.training.trainer import Trainer


class GatedBlock(nn.Module):
    def __init__(self, config: sa.EncoderConfig, context: sa.Context) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model)
        self.attention = sa.SelfAttention(config.d_model, config.num_heads, context)

    def forward(self, x: Tensor, lengths: Tensor | None = None, context: sa.Context | None = None) -> Tensor:
        attended: Tensor = self.attention(self.norm(x), lengths, context)
        return x + attended


class TwoLayerHead(FrameClassifier):
    def __init__(self, d_model: int, num_classes: int) -> None:
        super().__init__(d_model, num_classes)
        self.output = nn.Sequential(nn.Linear(d_model, d_model), nn.ReLU(), nn.Linear(d_model, num_classes))  # type: ignore[assignment]


def own_encoder(config: sa.EncoderConfig) -> nn.Module:
    return sa.build_encoder(replace(config, block="cnn", position_encoding="none", conv_kernel=3))


def shifted(frames: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
    return frames + torch.randn(len(frames), 1, 1, generator=generator)


@pytest.fixture
def config(tmp_path: Path) -> sa.TrainConfig:
    for index, speaker in enumerate(("anna", "bert", "carl")):
        (tmp_path / "data" / speaker).mkdir(parents=True)
        samples = np.random.default_rng(index).normal(0, 0.03, 24_000)
        samples[8_000:18_000] *= 10
        soundfile.write(tmp_path / "data" / speaker / "1.wav", samples.clip(-1, 1), 16_000)
    settings: dict[str, Any] = {"d_model": 16, "num_heads": 2, "num_layers": 2, "d_ff": 32, "workers": 0}
    return sa.TrainConfig(
        data=str(tmp_path / "data"),
        subset=".",
        labels="speech",
        out=str(tmp_path / "run"),
        cache=str(tmp_path / "cache"),
        epochs=2,
        baselines=("linear",),
        **settings,
    )


def weights(model: sa.SpeechModel) -> Tensor:
    return torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])


PARTS: list[dict[str, Callable[..., Any]]] = [{"block": GatedBlock}, {"head": TwoLayerHead}, {"encoder": own_encoder}]


@pytest.mark.parametrize("parts", PARTS, ids=["block", "head", "encoder"])
def test_a_part_of_ones_own_is_trained_saved_and_loaded(
    parts: dict[str, Any], config: sa.TrainConfig, tmp_path: Path
) -> None:
    sa.train(config, **parts)
    folder = tmp_path / "run" / "model"
    (name,) = parts
    with pytest.raises(sa.UserError, match=rf"module of your own.*{name}=\.\.\."):
        sa.load(folder)
    model = sa.load(folder, **parts)
    waveform = torch.randn(1, 8_000) / 10
    assert model(waveform)[0].shape == (1, 50, 2)
    model.save(tmp_path / "again")
    assert torch.equal(sa.load(tmp_path / "again", **parts)(waveform)[0], model(waveform)[0])
    with pytest.raises(sa.UserError, match=f"other parts: {name} was .* and is the usual one"):
        run(config)


def test_a_block_that_cannot_stream_says_so_and_its_latency_is_not_known(
    config: sa.TrainConfig, tmp_path: Path
) -> None:
    sa.train(config, block=GatedBlock)
    model = sa.load(tmp_path / "run" / "model", block=GatedBlock)
    assert not model.is_described
    with pytest.raises(ValueError, match="GatedBlock cannot stream"):
        sa.Stream(model)


def test_a_run_with_own_parts_that_was_stopped_ends_with_the_same_weights(
    config: sa.TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, baselines=(), checkpoint_seconds=0.0)
    parts: dict[str, Any] = {"block": GatedBlock, "augment": shifted}
    sa.train(replace(config, out=str(tmp_path / "whole")), **parts)
    with monkeypatch.context() as patch:
        step = Trainer.step

        def dying(self: Trainer, *batch: Tensor) -> tuple[float, float]:
            if self.progress.step == 1:
                raise KeyboardInterrupt
            return step(self, *batch)

        patch.setattr(Trainer, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            sa.train(config, **parts)
    sa.train(config, **parts)
    ends = [sa.load(tmp_path / name / "model", block=GatedBlock) for name in ("whole", "run")]
    assert torch.equal(weights(ends[0]), weights(ends[1]))


def test_an_augmentation_of_ones_own_replaces_the_usual_one(config: sa.TrainConfig, tmp_path: Path) -> None:
    calls = []

    def recorded(frames: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        calls.append(frames.shape)
        return frames

    sa.train(replace(config, baselines=()), augment=recorded)
    sa.train(replace(config, baselines=(), augment=False, out=str(tmp_path / "none")))
    ends = [sa.load(tmp_path / name / "model") for name in ("run", "none")]
    assert calls and torch.equal(weights(ends[0]), weights(ends[1]))


def test_a_block_and_an_encoder_together_are_refused(config: sa.TrainConfig) -> None:
    with pytest.raises(ValueError, match="a block or an encoder, not both"):
        sa.train(config, block=GatedBlock, encoder=own_encoder)


def test_a_head_that_is_no_module_is_refused(config: sa.TrainConfig) -> None:
    with pytest.raises(TypeError, match=r"head must be a torch\.nn\.Module or return one, got int"):
        sa.train(config, head=lambda d_model, num_classes: 3)  # type: ignore[arg-type, return-value]


def test_settings_of_one_baseline_are_its_own(config: sa.TrainConfig) -> None:
    config = replace(config, baselines=("linear", "mlp"), baseline_settings=("mlp.epochs=1", "mlp.mlp_width=24"))
    assert config.of_encoder("mlp").epochs == 1 and config.of_encoder("linear") is config
    assert replace(config, baselines=("linear",)).of_encoder("linear").epochs == config.epochs
    report = sa.train(config)
    model = sa.load(report.parent / "baselines" / "mlp" / "model")
    assert model.config.encoder.d_model == 24
    for text, message in [
        ("mlp.seed=1", "may have its own"),
        ("dnn.dropout=0.1", "must be one of|cnn"),
        ("mlp", "ENCODER.SETTING=VALUE"),
        ("mlp.dropout=much", "no number"),
    ]:
        with pytest.raises(sa.ConfigError, match=message):
            replace(config, baseline_settings=(text,))
