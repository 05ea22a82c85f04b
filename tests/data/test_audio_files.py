"""Every fault of a sound file, as a real file, is refused; good files are scaled, averaged and resampled.

Tolerance: 16-bit samples are within 2^-15 of what was written, 8-bit within 2^-7, float formats within 1e-7.
"""

import copy
import os
import socket
import stat
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from speechattn.data.audio import files, sound_file
from speechattn.data.audio.errors import AudioError, AudioWarning
from speechattn.data.audio.files import audio_blocks, audio_samples, load_audio

RATE = 16000


@pytest.fixture(autouse=True)
def no_warning_shown_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_warned", set())


def tone(num_samples: int = 24_000, rate: int = RATE) -> np.ndarray:
    """A 440 Hz tone with a little noise, at most 0.41."""
    noise = np.random.default_rng(0).standard_normal(num_samples)
    return 0.4 * np.sin(2 * np.pi * 440 * np.arange(num_samples) / rate) + 0.002 * noise.clip(-4, 4)


def write(path: Path, samples: np.ndarray, rate: int = RATE, **options: str) -> Path:
    soundfile.write(path, samples, rate, **options)
    return path


def patched(path: Path, offset: int, new: bytes) -> Path:
    data = bytearray(path.read_bytes())
    data[offset : offset + len(new)] = new
    path.write_bytes(data)
    return path


def flac_header(path: Path, rate: int, total: int) -> Path:
    """Rewrite sample rate (20 bits) and number of samples (36 bits) in a FLAC's STREAMINFO."""
    packed = int.from_bytes(path.read_bytes()[18:26], "big")
    packed = packed & (((1 << 44) - 1) & ~((1 << 36) - 1)) | (rate << 44) | total
    return patched(path, 18, packed.to_bytes(8, "big"))


def refused(path: Path, reason: str, *, header_shows: bool) -> str:
    """The message with which both readers, or only the decoder, refuse a file."""
    with pytest.raises(AudioError) as caught:
        load_audio(path)
    assert caught.value.reason == reason
    assert caught.value.path == path
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    if header_shows:
        with pytest.raises(AudioError) as cheap:
            audio_samples(path)
        assert cheap.value.reason == reason
    else:
        assert audio_samples(path) > 0
    return str(caught.value)


# What must arrive


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_16", 2**-15),
        ("a.wav", "PCM_24", 2**-23),
        ("a.wav", "PCM_U8", 2**-7),
        ("a.wav", "FLOAT", 1e-7),
        ("a.wav", "DOUBLE", 1e-7),
        ("a.flac", "PCM_16", 2**-15),
        ("a b/ü.flac", "PCM_24", 2**-23),
    ],
)
def test_samples_are_scaled(tmp_path: Path, name: str, subtype: str, tolerance: float) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    write(path, tone(), subtype=subtype)
    waveform, rate = load_audio(path)
    assert rate == RATE
    assert waveform.dtype == torch.float32
    assert waveform.shape == (24_000,)
    assert np.abs(waveform.numpy() - tone()).max() <= tolerance
    assert audio_samples(path) == 24_000


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3"])
def test_lossy_formats_are_read(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, tone())
    waveform, _ = load_audio(str(path))
    assert len(waveform) == audio_samples(str(path)) == 24_000
    assert np.corrcoef(waveform.numpy()[2000:-2000], tone()[2000:-2000])[0, 1] > 0.99


def test_blocks_are_joined_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", tone())
    whole, _ = load_audio(path)
    for block in (1000, 24_000, 999):
        monkeypatch.setattr(sound_file, "BLOCK", block)
        assert torch.equal(load_audio(path)[0], whole)


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_are_averaged_with_one_warning(tmp_path: Path, channels: int) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (5000, channels))
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    with pytest.warns(AudioWarning, match=f"a.wav: {channels} channels are averaged"):
        waveform, _ = load_audio(path)
    assert np.abs(waveform.numpy() - samples.mean(axis=1)).max() < 1e-6
    assert audio_samples(path) == 5000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_audio(path)


def test_a_file_in_blocks_is_one_file(tmp_path: Path) -> None:
    """Of many files only the first is named; a file that is streamed is the only one."""
    path = write(tmp_path / "a.wav", np.stack([tone(), tone()], 1), 8000)
    with pytest.warns(AudioWarning) as caught:
        assert sum(map(len, audio_blocks(path))) == 48_000
    messages = [str(warning.message) for warning in caught]
    assert messages == [f"{path}: 2 channels are averaged to one.", f"{path}: 8000 Hz is resampled to 16000 Hz."]


@pytest.mark.parametrize("rate", [8000, 44_100, 48_000, 11_025])
@pytest.mark.parametrize("num_samples", [1, 443, 24_001])
def test_other_rates_are_resampled(tmp_path: Path, rate: int, num_samples: int) -> None:
    path = write(tmp_path / "a.wav", tone(num_samples, rate), rate)
    with pytest.warns(AudioWarning, match=f"{rate} Hz is resampled to 16000 Hz"):
        waveform, new_rate = load_audio(path)
    assert new_rate == RATE
    assert len(waveform) == audio_samples(path)
    if num_samples > 20_000:
        assert abs(len(waveform) / RATE - num_samples / rate) < 1 / RATE
        inner = slice(500, len(waveform) - 500)
        expected = 0.4 * np.sin(2 * np.pi * 440 * np.arange(len(waveform)) / RATE)
        assert np.abs(waveform.numpy() - expected)[inner].max() < 0.02  # what is left is the noise
    waveform, kept = load_audio(path, sample_rate=None)
    assert (len(waveform), kept) == (num_samples, rate)
    assert audio_samples(path, sample_rate=None) == num_samples


def test_resampling_and_mixing_have_one_warning_each(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.zeros((800, 2)), 8000)
    with pytest.warns(AudioWarning) as shown:
        load_audio(path)
        load_audio(path)
    assert len(shown) == 2


def test_no_samples_is_no_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.zeros(0))
    waveform, _ = load_audio(path)
    assert waveform.shape == (0,)
    assert audio_samples(path) == 0
    with pytest.warns(AudioWarning, match="resampled"):
        assert load_audio(write(tmp_path / "b.wav", np.zeros(0), 8000))[0].shape == (0,)


def test_a_flac_from_a_pipe_has_no_length_and_is_read_to_its_end(tmp_path: Path) -> None:
    path = flac_header(write(tmp_path / "a.flac", tone()), RATE, 0)
    assert len(load_audio(path)[0]) == 24_000
    assert audio_samples(path) == 24_000


def test_a_wav_from_a_pipe_has_no_length_and_is_read_to_its_end(tmp_path: Path) -> None:
    path = patched(write(tmp_path / "a.wav", tone()), 40, b"\xff\xff\xff\xff")
    assert len(load_audio(path)[0]) == audio_samples(path) == 24_000


def test_chunks_before_and_after_the_samples_are_no_fault(tmp_path: Path) -> None:
    data = write(tmp_path / "a.wav", tone()).read_bytes()
    odd = b"LIST" + struct.pack("<I", 3) + b"abc\0"  # an odd chunk is padded to even
    body = data[12:36] + odd + data[36:] + odd
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body)
    assert len(load_audio(tmp_path / "a.wav")[0]) == audio_samples(tmp_path / "a.wav") == 24_000


def test_rf64_keeps_its_length_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(), format="RF64")
    assert len(load_audio(path)[0]) == audio_samples(path) == 24_000
    path.write_bytes(path.read_bytes()[:-2000])
    refused(path, "truncated", header_shows=True)


def test_real_speech_and_a_long_opus_chapter(librispeech_tiny: Path, long_chapters: Path, fsdd_mini: Path) -> None:
    for path in sorted(librispeech_tiny.glob("LibriSpeech/*/*/*/*.flac")):
        waveform, rate = load_audio(path)
        assert rate == RATE
        assert len(waveform) == audio_samples(path)
        assert 0.01 < waveform.abs().max() <= 1
    assert 16 * 60 * RATE < audio_samples(long_chapters / "19-227.opus") < 17 * 60 * RATE
    digit = sorted(fsdd_mini.rglob("*.wav"))[0]
    with pytest.warns(AudioWarning, match="8000 Hz"):
        assert len(load_audio(digit)[0]) == audio_samples(digit) == 2 * audio_samples(digit, sample_rate=None)


# What must be refused


def test_missing_directory_socket_and_pipe_never_hang(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "none.flac", "missing", header_shows=True)
    (tmp_path / "link.flac").symlink_to(tmp_path / "none.flac")
    refused(tmp_path / "link.flac", "missing", header_shows=True)
    (tmp_path / "folder.flac").mkdir()
    refused(tmp_path / "folder.flac", "directory", header_shows=True)
    os.mkfifo(tmp_path / "pipe.flac")
    refused(tmp_path / "pipe.flac", "named pipe", header_shows=True)
    refused(Path("/dev/null"), "device", header_shows=True)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop", "unreadable", header_shows=True)


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.wav")
        refused(Path("s.wav"), "socket", header_shows=True)


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", tone())
    path.chmod(0)
    if os.geteuid() == 0:  # root reads everything: deny it as the system would

        def deny(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", deny)
    assert "Permission denied" in refused(path, "unreadable", header_shows=True)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)


def test_empty_files_text_and_random_bytes_have_different_reasons(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.touch()
    assert "0 bytes" in refused(path, "empty file", header_shows=True)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\n" * 20)
    assert "text" in refused(path, "text", header_shows=True)
    path.write_text("ü" * 400)  # cut in the middle of a character by the first 512 bytes
    refused(path, "text", header_shows=True)
    path.write_bytes(b"a" + "ü".encode() * 400)
    refused(path, "text", header_shows=True)
    path.write_bytes(np.random.default_rng(0).bytes(3000))
    refused(path, "unknown format", header_shows=True)
    refused(path.rename(tmp_path / "a.raw"), "unknown format", header_shows=True)


@pytest.mark.parametrize("missing", [1, 2, 24_000, 47_000])
def test_a_truncated_wav_is_not_half_a_recording(tmp_path: Path, missing: int) -> None:
    path = write(tmp_path / "a.wav", tone())
    path.write_bytes(path.read_bytes()[:-missing])
    message = refused(path, "truncated", header_shows=True)
    assert "48000" in message
    assert str(48_000 - missing) in message


def test_a_wav_cut_inside_its_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone())
    path.write_bytes(path.read_bytes()[:30])
    refused(path, "unknown format", header_shows=True)


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_truncated_flac_is_refused(tmp_path: Path, kept: float) -> None:
    path = write(tmp_path / "a.flac", tone())
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    assert "truncated or corrupted" in refused(path, "corrupt", header_shows=False)


@pytest.mark.filterwarnings("ignore::speechattn.data.audio.errors.AudioWarning")
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("block", [2**18, 5000])
@pytest.mark.parametrize("damage", ["cut", "zeros", "noise"])
def test_samples_before_damage_are_yielded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, block: int, channels: int
) -> None:
    monkeypatch.setattr(sound_file, "BLOCK", block)
    path = write(tmp_path / "a.flac", np.stack([tone()] * channels, 1))
    whole, data = load_audio(path)[0].numpy(), path.read_bytes()
    middle = len(data) * 6 // 10
    if damage == "cut":
        path.write_bytes(data[:middle])
    else:
        patched(path, middle, b"\0" * 200 if damage == "zeros" else np.random.default_rng(0).bytes(200))
    blocks: list[np.ndarray] = []
    with pytest.raises(AudioError, match="decoding broke off") as caught:
        for samples in audio_blocks(path):
            blocks.append(samples)
    assert caught.value.reason == "corrupt"
    given = np.concatenate(blocks)
    assert np.array_equal(given, whole[: len(given)])
    assert len(given) > 0.6 * 24_000 - 4096 - sound_file.PIECE, "all but a FLAC frame and a piece"


@pytest.mark.parametrize("damage", [b"\0" * 200, b"\xa5" * 200, b"\x10"])
def test_a_corrupted_flac_is_refused(tmp_path: Path, damage: bytes) -> None:
    path = write(tmp_path / "a.flac", tone())
    patched(path, path.stat().st_size // 2, damage)
    refused(path, "corrupt", header_shows=False)


def test_a_truncated_mp3_has_fewer_samples_than_promised(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3", tone(48_000))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, "truncated", header_shows=True)


@pytest.mark.parametrize("rate", [2**31 - 1, 800_000, 999, 1])
def test_an_absurd_sample_rate_is_refused(tmp_path: Path, rate: int) -> None:
    path = patched(write(tmp_path / "a.wav", tone()), 24, struct.pack("<I", rate))
    assert str(rate) in refused(path, "wrong header", header_shows=True)


def test_a_flac_that_claims_more_than_could_fit_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = flac_header(write(tmp_path / "a.flac", tone()), RATE, 2**36 - 1)
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("it was read"))
    assert "cannot fit" in refused(path, "wrong header", header_shows=True)


def test_a_flac_that_claims_twice_its_samples(tmp_path: Path) -> None:
    path = flac_header(write(tmp_path / "a.flac", tone()), RATE, 48_000)
    with pytest.raises(AudioError, match="48000 samples, got 24000") as caught:
        load_audio(path)
    assert caught.value.reason == "truncated"


def test_digital_silence_is_small_and_still_no_lie(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", np.zeros(2_000_000))
    assert len(load_audio(path)[0]) == audio_samples(path) == 2_000_000


def test_a_wav_whose_writer_was_interrupted(tmp_path: Path) -> None:
    path = patched(write(tmp_path / "a.wav", tone()), 40, b"\0\0\0\0")
    assert "48000 bytes follow" in refused(path, "wrong header", header_shows=True)


@pytest.mark.parametrize(("value", "name"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_samples_must_be_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, name: str) -> None:
    monkeypatch.setattr(sound_file, "BLOCK", 1000)
    samples = np.stack([tone(), tone()], axis=1)
    samples[12_345:12_400, 1] = value
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    assert f"sample 12345 is {name}" in refused(path, "not finite", header_shows=False)


@pytest.mark.parametrize("rate", [0, -1, 999, 10**6, 22050.5, np.nan, np.inf, True, "16000"])
def test_the_wanted_rate_must_be_a_rate(tmp_path: Path, rate: Any) -> None:
    for read in (load_audio, audio_samples):
        with pytest.raises(ValueError, match="sample_rate must be a whole 1000 to 768000"):
            read(tmp_path / "a.wav", rate)


def test_the_error_survives_a_worker_process(tmp_path: Path) -> None:
    with pytest.raises(AudioError) as caught:
        load_audio(tmp_path / "none.wav")
    rebuilt = copy.copy(caught.value)  # from its args and attributes, as a worker's parent does
    assert (str(rebuilt), rebuilt.path, rebuilt.reason) == (str(caught.value), tmp_path / "none.wav", "missing")
    assert str(AudioError("message alone")) == "message alone"
