"""Hours through a model: what comes out equals offline for any blocks, and an interruption changes no byte.

Tolerance 1e-10 in float64: blocks are products of other shapes than the whole.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from rounding import assert_labels, assert_same

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.data.audio import sound_file
from speechattn.data.audio.errors import AudioError
from speechattn.data.audio.files import audio_blocks, load_audio
from speechattn.data.audio.samples import cut
from speechattn.encoder.encoder import Encoder
from speechattn.errors import UserError
from speechattn.model_config import ModelConfig
from speechattn.models.pretrained import load_pretrained
from speechattn.models.speech_model import SpeechModel
from speechattn.streaming.long_form import encode_long
from speechattn.streaming.resumable_array import ResumableArray
from speechattn.streaming.stream import Stream

ROOT = Path(__file__).parents[2]
ENCODER = EncoderConfig(
    8,
    d_model=8,
    num_heads=2,
    num_layers=2,
    d_ff=12,
    context=(Context.truncated(9, 2), Context.chunked(4, 7)),
    splice=Context(1, 1),
)
MODEL = ModelConfig(("SIL", "AA", "B"), ENCODER, num_mels=8)
KINDS = {  # each keeps another kind of state
    "transformer": MODEL,
    "conformer and stack": replace(
        MODEL, encoder=replace(ENCODER, block="conformer", stack=2, conv_kernel=3), head="ctc"
    ),
    "deltas": replace(
        MODEL, features="mfcc", num_mels=20, num_ceps=8, deltas=2, encoder=replace(ENCODER, input_dim=24)
    ),
}
BLOCK = 40


def model_of(config: ModelConfig = MODEL, seed: int = 0) -> SpeechModel:
    torch.manual_seed(seed)
    return SpeechModel(config).double().eval()


def noise(seconds: float = 3.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.1, 0.1, round(16000 * seconds))


def offline(model: SpeechModel, waveform: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.from_numpy(waveform)[None])[0][0]  # type: ignore[no-any-return]


class PowerCutError(Exception):
    pass


def interrupted(source: np.ndarray, after: int, size: int = 5000) -> Iterator[np.ndarray]:
    """The samples in blocks, and after that many of them an exception."""
    for begin in range(0, len(source), size):
        if begin >= after:
            raise PowerCutError
        yield source[begin : begin + size]


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("block_frames", [1, 7, 60, 100_000])
def test_blocks_of_any_size_equal_offline(block_frames: int) -> None:
    model, waveform = model_of(), noise(0.777)
    parts = list(encode_long(model, waveform, block_frames=block_frames, progress=False))
    expected = offline(model, waveform)
    assert (torch.cat(parts) - expected).abs().max() < 1e-10
    assert block_frames > 60 or max(map(len, parts)) <= block_frames + len(parts[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_a_float_array_of_the_offline_rows(kind: str, tmp_path: Path) -> None:
    model, waveform = model_of(KINDS[kind]), noise()
    rows = encode_long(model, waveform, tmp_path / "deep" / "rows.npy", block_frames=BLOCK, progress=False)
    assert isinstance(rows, np.memmap) and rows.dtype == np.float64
    assert np.abs(rows - offline(model, waveform).numpy()).max() < 1e-10
    assert leftovers(tmp_path / "deep") == ["rows.npy"]
    single = encode_long(model.float(), waveform, tmp_path / "rows.npy", block_frames=BLOCK, progress=False)
    assert single.dtype == np.float32 and single.shape == rows.shape


@pytest.mark.parametrize("kind", KINDS)
def test_an_interruption_after_any_block_changes_no_byte(kind: str, tmp_path: Path) -> None:
    model, waveform = model_of(KINDS[kind]), noise(1.3)
    settings: dict[str, Any] = {"block_frames": BLOCK, "progress": False}
    assert len(list(encode_long(model, waveform, **settings))) == 5  # four blocks and the flush
    encode_long(model, waveform, tmp_path / "whole.npy", **settings)
    for after in (0, 5000, 10_000, 15_000, 20_000):
        out = tmp_path / f"{after}.npy"
        with pytest.raises(PowerCutError):
            encode_long(model, interrupted(waveform, after), out, **settings)
        assert not out.exists() and (out.with_name(f"{after}.npy.state").exists() == (after > 6400))
        encode_long(model, waveform, out, **settings)
        assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert leftovers(tmp_path) == sorted([*(f"{n}.npy" for n in (0, 5000, 10_000, 15_000, 20_000)), "whole.npy"])


def test_going_on_encodes_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, waveform, out = model_of(), noise(1.3), tmp_path / "rows.npy"
    with pytest.raises(PowerCutError):
        encode_long(model, interrupted(waveform, 15_000), out, block_frames=BLOCK, progress=False)
    steps, step = [], SpeechModel.step
    monkeypatch.setattr(SpeechModel, "step", lambda *given: steps.append(given[1].shape[1]) or step(*given))  # type: ignore[func-returns-value]
    encode_long(model, waveform, out, block_frames=BLOCK, progress=False)
    assert steps == [6400, 20_800 - 3 * 6400]


def test_an_interruption_between_the_last_rows_and_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, waveform, out = model_of(), noise(1.0), tmp_path / "rows.npy"

    def cut_off(self: ResumableArray) -> None:
        raise PowerCutError

    with monkeypatch.context() as patched, pytest.raises(PowerCutError):
        patched.setattr(ResumableArray, "finish", cut_off)
        encode_long(model, waveform, out, block_frames=BLOCK, progress=False)
    rows = encode_long(model, waveform, out, block_frames=BLOCK, progress=False)
    assert np.abs(rows - offline(model, waveform).numpy()).max() < 1e-10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda call: call.update(model=model_of(seed=1)), "begun by another model, or with other settings"),
        (lambda call: call.update(hidden=True), "begun by another model, or with other settings"),
        (lambda call: call.update(block_frames=41), "begun by another model, or with other settings"),
        (lambda call: call.update(source=noise(1.3, seed=1)), "begun with another source"),
        (lambda call: call.update(source=noise(0.5)), "begun with another source"),
    ],
    ids=["weights", "hidden", "blocks", "source", "shorter"],
)
def test_a_file_that_another_call_has_begun_is_left_alone(change: Any, message: str, tmp_path: Path) -> None:
    waveform, out = noise(1.3), tmp_path / "rows.npy"
    call: dict[str, Any] = {
        "model": model_of(),
        "source": waveform,
        "out": out,
        "block_frames": BLOCK,
        "progress": False,
    }
    with pytest.raises(PowerCutError):
        encode_long(**call | {"source": interrupted(waveform, 15_000)})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = dict(call)
    change(other)
    with pytest.raises(UserError, match=message) as refusal:
        encode_long(**other)
    assert "\n" not in str(refusal.value) and "delete it and rows.npy.state" in str(refusal.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    rows = encode_long(**call)
    assert np.abs(rows - offline(call["model"], waveform).numpy()).max() < 1e-10


def test_damage_to_what_was_begun_is_said(tmp_path: Path) -> None:
    waveform, out = noise(1.3), tmp_path / "rows.npy"
    with pytest.raises(PowerCutError):
        encode_long(model_of(), interrupted(waveform, 15_000), out, block_frames=BLOCK, progress=False)
    part, state = tmp_path / "rows.npy.part", tmp_path / "rows.npy.state"
    whole = part.read_bytes()
    part.write_bytes(whole[:200])
    with pytest.raises(UserError, match="has lost rows"):
        encode_long(model_of(), waveform, out, block_frames=BLOCK, progress=False)
    part.write_bytes(whole)
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(UserError, match="is damaged"):
        encode_long(model_of(), waveform, out, block_frames=BLOCK, progress=False)
    part.unlink()  # a state without rows is what remains when all had been done
    assert len(encode_long(model_of(), waveform, out, block_frames=BLOCK, progress=False)) == 130


def test_two_writers_of_one_file(tmp_path: Path) -> None:
    out = tmp_path / "rows.npy"
    with ResumableArray(out, 3, np.float32, "somebody"), pytest.raises(UserError, match="another process is writing"):
        encode_long(model_of(), noise(1.0), out, progress=False)


def test_a_file_is_read_in_blocks_and_equals_load_audio(
    librispeech_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound_file, "BLOCK", 3001)
    path = min(librispeech_tiny.rglob("*.flac"), key=lambda flac: flac.stat().st_size)
    waveform, rate = load_audio(path)
    blocks = list(audio_blocks(path))
    assert rate == 16000 and max(map(len, blocks)) == 3001
    assert np.array_equal(np.concatenate(blocks), waveform.numpy())
    rows = encode_long(model_of(), path, tmp_path / "rows.npy", progress=False)
    assert np.abs(rows - offline(model_of(), waveform.double().numpy()).numpy()).max() < 1e-10


@pytest.mark.filterwarnings("ignore::speechattn.data.audio.errors.AudioWarning")
def test_other_rates_from_a_file_and_from_blocks(tmp_path: Path) -> None:
    samples = noise(0.4).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 44100, subtype="FLOAT")
    expected = offline(model_of(), load_audio(tmp_path / "a.wav")[0].double().numpy())
    model = model_of()
    read = torch.cat(list(encode_long(model, tmp_path / "a.wav", block_frames=9, progress=False)))
    given = [torch.from_numpy(piece) for piece in np.array_split(samples, 7)]
    pieces = torch.cat(list(encode_long(model.float(), given, sample_rate=44100, block_frames=9, progress=False)))
    assert (read - expected).abs().max() < 1e-10
    assert (pieces - expected).abs().max() < 1e-5 * expected.abs().max()


def test_16_bit_samples_are_the_floats_that_they_stand_for(tmp_path: Path) -> None:
    model, samples = model_of(), (noise(1.3) * 32768).round().astype(np.int16)
    settings: dict[str, Any] = {"block_frames": BLOCK, "progress": False}
    expected = list(encode_long(model, samples / 32768, **settings))
    np.save(tmp_path / "samples.npy", samples)
    mapped = np.load(tmp_path / "samples.npy", mmap_mode="r")
    for source in (samples, torch.from_numpy(samples), mapped, iter(np.array_split(samples, 7))):
        for rows, wanted in zip(encode_long(model, source, **settings), expected, strict=True):
            assert_same(rows, wanted)
    read = torch.cat(list(encode_long(model.float(), samples, sample_rate=8000, **settings)))
    floats = (samples / 32768).astype(np.float32)
    assert_same(read, torch.cat(list(encode_long(model, floats, sample_rate=8000, **settings))))
    # What was begun from integers goes on from floats: it is the same sound.
    with pytest.raises(PowerCutError):
        encode_long(model, interrupted(samples, 15_000), tmp_path / "rows.npy", **settings)
    assert len(encode_long(model, floats, tmp_path / "rows.npy", **settings)) == 130


def test_hidden_rows_are_what_the_encoder_gives(tmp_path: Path) -> None:
    model, waveform = model_of(), noise()
    rows = encode_long(model, waveform, tmp_path / "rows.npy", hidden=True, block_frames=BLOCK, progress=False)
    with torch.no_grad():
        frames, lengths = model.frontend(torch.from_numpy(waveform)[None])
        hidden = model.encoder(model.normalize(frames, lengths), lengths)[0][0]
    assert np.abs(rows - hidden.numpy()).max() < 1e-10
    assert offline(model, waveform).shape[1] == 3  # the model still has its head


def test_an_encoder_takes_frames(tmp_path: Path) -> None:
    encoder, frames = Encoder(ENCODER).eval(), torch.randn(200, 8)
    np.save(tmp_path / "frames.npy", frames.numpy())
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
    rows = encode_long(encoder, mapped, tmp_path / "rows.npy", block_frames=BLOCK, progress=False)
    expected = encoder(frames[None])[0][0].detach()
    assert np.abs(rows - expected.numpy()).max() < 1e-5 * expected.abs().max()
    with pytest.raises(TypeError, match="an Encoder takes frames"):
        encode_long(encoder, tmp_path / "frames.npy")


@pytest.mark.parametrize("num_samples", [0, 159])
def test_less_than_a_frame_is_no_rows(num_samples: int, tmp_path: Path) -> None:
    assert encode_long(model_of(), noise()[:num_samples], tmp_path / "rows.npy", progress=False).shape == (0, 3)


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "rows.npy"
    out.write_bytes(b"older")
    with pytest.raises(PowerCutError):
        encode_long(model_of(), interrupted(noise(), 15_000), out, block_frames=BLOCK, progress=False)
    assert out.read_bytes() == b"older"
    encode_long(model_of(), noise(), out, block_frames=BLOCK, progress=False)
    assert len(np.load(out)) == 300


def test_invalid_samples_leave_no_file_behind(tmp_path: Path) -> None:
    waveform = noise()
    waveform[123] = np.nan
    with pytest.raises(UserError, match=r"sample 123 of the source \(0\.008 s\) is nan"):
        encode_long(model_of(), waveform, tmp_path / "rows.npy", progress=False)
    later = iter(np.array_split(noise() * 32768, 100))
    with pytest.raises(UserError, match=r"sample 0 of the source .* 16-bit samples as floats; divide by 32768"):
        encode_long(model_of(), later, tmp_path / "rows.npy", progress=False)
    with pytest.raises(AudioError, match="does not exist"):
        encode_long(model_of(), tmp_path / "absent.wav", tmp_path / "rows.npy", progress=False)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"source": np.zeros(9, np.int32)}, TypeError, "floats in .* or 16-bit integers, got int32"),
        ({"source": [np.zeros((2, 9))]}, ValueError, r"must be a vector \[n\], got \[2, 9\]\. Average the channels"),
        ({"source": [0.1] * 99}, TypeError, r"a list is taken as blocks of samples, .* float: np\.array\(samples\)"),
        ({"source": list(np.zeros(9, np.float32))}, TypeError, "taken as blocks of samples, .* float32"),
        ({"source": list(torch.zeros(9))}, TypeError, "taken as blocks of samples, .* Tensor"),
        ({"out": "rows.txt"}, UserError, r"out must end in \.npy, got rows\.txt"),
        ({"model": Encoder(ENCODER).eval(), "source": np.zeros((9, 8), np.int16)}, TypeError, r"got int16 \[9, 8\]"),
        ({"source": "a.wav", "sample_rate": 8000}, ValueError, "a sound file has its own"),
        ({"block_frames": 0}, ValueError, "block_frames must be 1 or more"),
        ({"model": torch.nn.Linear(1, 1)}, TypeError, "a SpeechModel or an Encoder that streams, got Linear"),
        ({"model": model_of(replace(MODEL, encoder=replace(ENCODER, context=Context.full())))}, ValueError, "right"),
    ],
    ids=["integers", "channels", "list", "scalars", "tensors", "out", "frames", "rate", "blocks", "model", "context"],
)
def test_a_wrong_call_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        list(encode_long(**{"model": model_of(), "source": noise(0.1), "progress": False} | call))


def test_an_out_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="choose another `out`"):
        encode_long(model_of(), noise(), tmp_path / "file" / "rows.npy", progress=False)


@pytest.mark.parametrize("source", [[np.zeros((9, 2))], [np.zeros(9, np.int32)], [0.5], np.ones(9) * 5000])
@pytest.mark.parametrize("sample_rate", [None, 8000])
def test_a_bad_first_block_is_said_before_a_bar_is_drawn(
    source: Any, sample_rate: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode_long(model_of(), source, tmp_path / "rows.npy", sample_rate=sample_rate)
    assert capsys.readouterr().err == "" and leftovers(tmp_path) == []


@pytest.mark.parametrize("to_a_file", [True, False])
def test_training_mode_warns_once_where_it_is_called(to_a_file: bool, tmp_path: Path) -> None:
    out = tmp_path / "rows.npy" if to_a_file else None
    with pytest.warns(UserWarning) as caught:
        list(encode_long(model_of().train(), noise(), out, hidden=True, block_frames=BLOCK, progress=False))
    assert [str(warning.message) for warning in caught] == [
        "streaming in training mode: dropout is active. Call model.eval()."
    ]
    assert caught[0].filename == __file__


def test_a_bar_counts_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    list(encode_long(model_of(), noise(2.5), block_frames=BLOCK))
    assert "2/2" in capsys.readouterr().err


KILLED = """
import sys
import torch
from speechattn.streaming.long_form import encode_long
from speechattn.models.speech_model import load
torch.set_num_threads(1)
encode_long(load(sys.argv[1]), sys.argv[2], sys.argv[3], block_frames=20, progress=False)
"""


@pytest.mark.slow
def test_kill_9_and_the_same_call_again_gives_the_same_bytes(tmp_path: Path) -> None:
    model_of().save(tmp_path / "model")
    soundfile.write(tmp_path / "long.wav", noise(200), 16000)
    out, state = tmp_path / "rows.npy", tmp_path / "rows.npy.state"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "model"), str(tmp_path / "long.wav")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    kills = 0
    while not out.exists():
        before = state.read_bytes() if state.exists() else b""
        with subprocess.Popen([*command, str(out)], env=environment) as process:
            while process.poll() is None and kills < 4:
                if state.exists() and state.read_bytes() != before:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
                    break
        assert process.returncode in (0, -signal.SIGKILL)
    assert kills == 4
    subprocess.run([*command, str(tmp_path / "whole.npy")], env=environment, check=True)
    assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert len(np.load(out)) == 20_000


@pytest.mark.slow
def test_a_chapter_of_17_minutes_equals_offline(long_chapters: Path, tmp_path: Path) -> None:
    """The shipped model in float32: 1e-5 of the largest logit, and every certain label, pushed 100 ms at a time."""
    model, path = load_pretrained("small-en-phones"), long_chapters / "19-227.opus"
    waveform, _ = load_audio(path)
    with torch.inference_mode():
        expected = model(waveform[None])[0][0]
    rows = encode_long(model, path, tmp_path / "rows.npy", progress=False)
    assert len(rows) == len(expected) == 100_627
    assert np.abs(rows - expected.numpy()).max() <= 1e-5 * expected.abs().max()
    stream, labels = Stream(model), []
    for push in cut(audio_blocks(path), 1600):
        labels.append(stream.push(push))
    labels.append(stream.flush())
    assert_labels([name for part in labels for name in part.labels], expected, model.config.classes)
    found = torch.tensor([p for part in labels for p in part.probabilities])
    assert (found - expected.softmax(-1).amax(-1)).abs().max() < 1e-5
