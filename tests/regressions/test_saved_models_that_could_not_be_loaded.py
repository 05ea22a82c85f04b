"""A model with an encoder of the user's own was saved into a folder that `load` could not read.

Its error ended at torch's colon, "Error(s) in loading state_dict for SpeechModel:", and named no tensor.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import speechattn as sa
from speechattn.errors import reason

CONFIG = sa.ModelConfig(("A", "B"), sa.EncoderConfig(8, d_model=4, num_heads=2, num_layers=1), num_mels=8)


class Own(nn.Module):
    """An encoder whose two layers share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 4)
        self.second = nn.Linear(4, 4)
        self.again = self.second

    def forward(self, frames: Any, lengths: Any = None) -> Any:
        return self.again(self.second(self.first(frames))), lengths


class Halved(sa.Encoder):
    """An encoder with the weights of ours that computes something else."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        hidden, lengths = super().forward(*args, **kwargs)
        return hidden / 2, lengths


class Scaled(sa.LogMel):
    """A frontend of ours with another scale."""


@pytest.mark.parametrize(
    ("part", "build"),
    [
        ("encoder", Own),
        ("encoder", lambda: Halved(CONFIG.encoder)),
        ("head", lambda: nn.Sequential(nn.Linear(4, 2))),
        ("normalize", nn.Identity),
        ("frontend", lambda: Scaled(8)),
    ],
)
def test_a_model_with_a_module_of_ones_own_comes_back_when_that_module_is_given(
    tmp_path: Path, part: Any, build: Any
) -> None:
    torch.manual_seed(0)
    model = sa.SpeechModel(CONFIG).eval()
    setattr(model, part, build())
    model.save(tmp_path)
    with pytest.raises(sa.UserError, match=rf"own, {part} = .*sa.load\(.*, {part}=\.\.\.\)\.$"):
        sa.load(tmp_path)
    given = build()
    loaded = sa.load(tmp_path, **{part: given})
    assert getattr(loaded, part) is given
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_a_model_as_its_config_describes_it_is_saved_as_before(tmp_path: Path) -> None:
    sa.SpeechModel(CONFIG).save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()).keys() == {"format_version", "model"}


def test_weights_that_do_not_fit_are_named_with_their_shapes_and_counted(tmp_path: Path) -> None:
    sa.SpeechModel(CONFIG).save(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tensors["head.output.weight"] = torch.zeros(3, 4)
    tensors["encoder.blocks.0.attention.relative_bias.table"] = torch.zeros(2, 5)
    for name in [name for name in tensors if ".feed_forward." in name]:
        del tensors[name]
    save_file(tensors | {"extra": torch.zeros(1)}, path)
    with pytest.raises(sa.UserError) as refused:
        sa.load(tmp_path)
    message = str(refused.value)
    assert "\n" not in message
    assert "2 of another shape: " in message
    assert "head.output.weight [3, 4] for [2, 4]" in message
    assert "relative_bias.table [2, 5] for [2, 129]" in message
    assert "6 missing: encoder.blocks.0.feed_forward.0.weight, " in message
    assert " and 3 more; 1 unknown: extra. " in message
    assert "sa.resize_relative_bias" in message


def test_a_quantised_model_is_refused_when_it_is_saved(tmp_path: Path) -> None:
    model = sa.SpeechModel(CONFIG).eval()
    model.head.get_extra_state = dict  # type: ignore[method-assign]
    model.head.__class__ = type("Packed", (type(model.head),), {"get_extra_state": lambda self: {"scale": 1}})
    with pytest.raises(sa.UserError, match=r"cannot be saved \(head._extra_state is no tensor\): save the float model"):
        model.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_config_beside_the_weights_is_an_error_that_names_them(tmp_path: Path) -> None:
    sa.SpeechModel(CONFIG).save(tmp_path)
    path = tmp_path / "config.json"
    data = json.loads(path.read_text())
    data["model"] = replace(CONFIG, encoder=replace(CONFIG.encoder, num_layers=2)).to_dict()
    path.write_text(json.dumps(data))
    with pytest.raises(sa.UserError, match=r"13 missing: encoder.blocks.1.attention_norm.weight"):
        sa.load(tmp_path)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ImportError("cannot load:\n  libfirst.so\n  libsecond.so\n"), "cannot load: libfirst.so libsecond.so"),
        (ImportError(), "ImportError"),
        (OSError("\n"), "OSError"),
        (RuntimeError("x" * 1000), "x" * 400 + " ..."),
    ],
)
def test_the_reason_of_an_error_is_one_line_with_all_that_it_says(error: Any, line: Any) -> None:
    assert reason(error) == line


def test_an_encoder_of_ones_own_is_not_described_as_the_one_of_the_config() -> None:
    model = sa.SpeechModel(CONFIG).eval()
    assert model.is_described and "total" in model.describe()
    model.encoder = Own()  # type: ignore[assignment]
    assert model.describe() == "encoder Own: a module of your own; what it sees and waits for is not known."
    for call in (
        lambda: sa.Stream(model),
        model.initial_state,
        lambda: sa.encode_long(model, torch.zeros(400), progress=False),
    ):
        with pytest.raises(ValueError, match="Own cannot stream, it has no initial_state, step, flush: model"):
            call()


def test_an_encoder_of_ones_own_streams_and_its_latency_is_not_known() -> None:
    class Streaming(Own):
        def initial_state(self, batch_size: Any = 1) -> Any:
            return torch.zeros(batch_size, 0, 8)

        def step(self, frames: Any, state: Any) -> Any:
            return self(frames)[0], state

        def flush(self, state: Any) -> Any:
            return self(state)[0]

    model = sa.SpeechModel(CONFIG).eval()
    model.encoder = Streaming()  # type: ignore[assignment]
    stream = sa.Stream(model)
    waveform = torch.randn(1600) / 10
    labels = [label for push in waveform.split(500) for label in stream.push(push).labels]  # type: ignore[no-untyped-call]
    labels += stream.flush().labels
    offline = model(waveform[None])[0][0]
    certain = (offline[:, 0] - offline[:, 1]).abs() > 1e-4
    expected = ["AB"[best] for best in offline.argmax(-1)]
    assert len(labels) == len(expected)
    assert all(a == b for a, b, sure in zip(labels, expected, certain, strict=True) if sure)
    assert stream.algorithmic_latency_ms != stream.algorithmic_latency_ms, "NaN"
