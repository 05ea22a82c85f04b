"""An exported graph gives what `model.step` gives, or it is not written. What needs onnxruntime is marked integration,
but for one model where it is installed; test_fixedstep.py holds the step itself to eager.

Tolerance 1e-4: float32, and sums in another order.
"""

import importlib.util
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.data.audio.files import load_audio
from speechattn.encoder.encoder import Encoder
from speechattn.errors import UserError
from speechattn.export.export import check, export, runner, streamed
from speechattn.export.streaming_step import StreamingStep
from speechattn.framing import Framing
from speechattn.model_config import ModelConfig
from speechattn.models.pretrained import load_pretrained
from speechattn.models.speech_model import SpeechModel
from speechattn.streaming.stream import Stream

EXTRA = ("onnx", "onnxscript", "onnxruntime")
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in EXTRA),
    reason=f"the extra [export] is not installed: pip install {' '.join(EXTRA)}",
)
EXAMPLE = Path(__file__).parents[2] / "examples" / "stream_onnx.py"


def small(
    num_features: Any = 12,
    features: Any = "logmel",
    flavor: Any = "kaldi",
    framing: Any = None,
    head: Any = "frames",
    **encoder: Any,
) -> Any:
    """A model whose labels change often, though it is not trained."""
    settings = {"context": Context(9, 4), "max_frames": 200, **encoder}
    config = EncoderConfig(num_features, d_model=16, num_heads=2, num_layers=2, d_ff=32, **settings)
    model = SpeechModel(
        ModelConfig(tuple("abcde"), config, 12, flavor, framing or Framing(), features, 4, head=head)
    ).eval()
    model.normalize.mean.fill_(-8)
    model.normalize.std.fill_(0.5)
    return model


def session_of(path: Any) -> Any:
    return pytest.importorskip("onnxruntime").InferenceSession(path.read_bytes())


def test_torchs_own_format(tmp_path: Path) -> None:
    encoder = (
        Encoder(
            EncoderConfig(
                3,
                d_model=8,
                num_heads=2,
                num_layers=1,
                d_ff=12,
                context=Context(5, 2),
                position_encoding="rotary",
                stack=2,
            )
        )
        .double()
        .eval()
    )
    path = tmp_path / "encoder.pt2"
    assert export(encoder, 6, path, "torch") < 1e-12
    with pytest.warns() if torch.__version__.startswith("2.11") else pytest.MonkeyPatch.context():
        program = torch.export.load(io.BytesIO(path.read_bytes()))
    assert check(program.module(), encoder, StreamingStep(encoder, 6)) < 1e-12


@pytest.mark.integration
@needs_onnx
def test_an_onnx_graph_equals_eager_and_says_what_it_is(tmp_path: Path) -> None:
    model, path = small(), tmp_path / "model.onnx"
    assert export(model, 10, path) < 1e-4
    session = session_of(path)
    metadata = session.get_modelmeta().custom_metadata_map
    assert {name: metadata[name] for name in ("push", "outputs", "hop", "sample_rate", "first_center", "head")} == {
        "push": "1600",
        "outputs": "10",
        "hop": "160",
        "sample_rate": "16000",
        "first_center": "-40",
        "head": "frames",
    }
    waveform = 0.1 * torch.randn(1, 20_000)
    found = torch.cat(list(streamed(runner(session), StreamingStep(model, 10), waveform)), 1)
    with torch.no_grad():
        assert (found - model(waveform)[0]).abs().max() < 1e-4


def test_a_graph_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(EncoderConfig(3, d_model=8, num_heads=2, num_layers=1, d_ff=12, context=Context(5, 2))).eval()
    step = StreamingStep(encoder, 4)
    assert check(step, encoder, step) < 1e-5
    for wrong, message in [
        (lambda *given: (lambda y, *rest: (y * 1.01, *rest))(*step(*given)), "differs from model.step by"),
        (lambda *given: (lambda y, *rest: (y * torch.nan, *rest))(*step(*given)), "differs from model.step by nan"),
        (lambda *given: (lambda y, rows, *rest: (y, rows // 2, *rest))(*step(*given)), r"gave \d frames where"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            check(wrong, encoder, step)
    monkeypatch.setattr("speechattn.export.export.check", lambda *_: (_ for _ in ()).throw(RuntimeError("differs")))
    with pytest.raises(RuntimeError, match="differs"):
        export(encoder, 4, tmp_path / "encoder.pt2", "torch")
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    with pytest.raises(ValueError, match="format must be one of onnx, torch, got 'tflite'"):
        export(model, 10, tmp_path / "x", "tflite")
    with pytest.raises(UserError, match="lost is not a folder"):
        export(model, 10, tmp_path / "lost" / "x.onnx")
    with pytest.raises(UserError, match=r"takes a float32 model, this one is torch.float64: export model.float\(\)"):
        export(small().double(), 10, tmp_path / "x")
    with pytest.raises(UserError, match="float32 or float64 model"):
        export(small().encoder.half(), 10, tmp_path / "x", "torch")
    with pytest.raises(UserError, match="multiple of 4"):
        export(small(context=Context.chunked(4, 8)), 10, tmp_path / "x")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install onnx onnxscript onnxruntime") as caught:
        export(model, 10, tmp_path / "x")
    assert "\n" not in str(caught.value)


@pytest.mark.integration
@needs_onnx
@pytest.mark.parametrize(
    ("settings", "push"),
    [
        ({"flavor": "librosa", "position_encoding": "alibi"}, 10),
        ({"num_features": 12, "features": "mfcc", "position_encoding": "none"}, 7),
        ({"head": "ctc", "stack": 4, "position_encoding": "sinusoidal", "splice": Context(2, 3)}, 12),
        ({"framing": Framing(align="snip"), "position_encoding": "learned", "activation": "relu"}, 100),
        ({"block": "conformer", "context": Context(9, 2, 4), "position_encoding": "rotary", "conv_lookahead": 3}, 8),
        ({"block": "cnn", "conv_lookahead": "symmetric"}, 1),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, dict) else str(value),
)
def test_every_kind_of_model_as_onnx(settings: Any, push: Any, tmp_path: Path) -> None:
    model, path = small(**settings), tmp_path / "model.onnx"
    assert export(model, push, path) < 1e-4
    # And ten hours into a stream, where an angle in float32 would be off by a radian.
    step, generator = StreamingStep(model, push), torch.Generator().manual_seed(1)
    if settings.get("position_encoding") == "learned":
        return
    _, caches = step.initial_state()
    caches = tuple(torch.randn(cache.shape, generator=generator) for cache in caches)
    given = (torch.randn(1, step.num_inputs, generator=generator), torch.tensor(step.num_inputs))
    counter = torch.full((2,), 576_000_000 // step.num_inputs * step.num_inputs)
    found, wanted = runner(session_of(path))(*given, counter, caches), step(*given, counter, caches)
    assert torch.equal(found[2], wanted[2])
    for ours, theirs in zip((*found[:2], *found[3]), (*wanted[:2], *wanted[3]), strict=True):
        assert (ours - theirs).abs().max() <= 1e-4 * max(1, theirs.abs().max())


@pytest.mark.integration
@needs_onnx
@pytest.mark.parametrize("settings", [{}, {"head": "ctc", "stack": 2}], ids=["frames", "ctc"])
def test_the_example_prints_what_a_stream_gives_without_torch(settings: Any, tmp_path: Path) -> None:
    model, path, sound = small(**settings), tmp_path / "model.onnx", tmp_path / "noise.wav"
    waveform = 0.1 * torch.randn(40_000) * torch.rand(50).repeat_interleave(800)
    with torch.no_grad():  # no class is always the best
        model.head.output.bias -= model(waveform[None])[0].mean((0, 1))
    export(model, 10, path)
    soundfile.write(sound, waveform.numpy(), 16_000, subtype="FLOAT")
    program = (
        "import runpy, sys; sys.modules |= dict.fromkeys(('torch', 'speechattn')); "
        f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(path), str(sound)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    stream = Stream(model)
    labels = stream.push(waveform) + stream.flush()
    if model.config.head == "ctc":
        found = [line.split()[2] for line in ran.stdout.splitlines()]
        assert found == list(labels.labels) and len(found) > 10
    else:
        wanted = [f"{segment.start_s:.3f} {segment.stop_s:.3f} {segment.label}" for segment in labels.segments]
        assert ran.stdout.splitlines() == wanted and len(wanted) > 10


@pytest.mark.integration
@needs_onnx
@pytest.mark.slow
def test_a_long_chapter_through_onnxruntime_equals_eager(long_chapters: Path, tmp_path: Path) -> None:
    model, path = load_pretrained("small-en-phones"), tmp_path / "model.onnx"
    export(model, 100, path)
    waveform, _ = load_audio(long_chapters / "19-227.opus")
    found = torch.cat(list(streamed(runner(session_of(path)), StreamingStep(model, 100), waveform[None])), 1)
    with torch.no_grad():
        wanted, _ = model(waveform[None])
    assert found.shape == wanted.shape and found.shape[1] > 100_000
    assert (found - wanted).abs().max() <= 1e-4
