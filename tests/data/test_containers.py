"""Audio is decoded to its end or refused with a message, whatever its container promises, by every reader.

Files are made by libsndfile and then changed as other writers and accidents would. Lossy codecs are compared by power:
a part that was lost, or came twice, changes it by far more than the 10 % that they do.
"""

from __future__ import annotations

import io
import json
import os
import struct
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import soundfile
import torch

import speechattn as sa
from speechattn.cli.main import main
from speechattn.data.audio import files, sound_file
from speechattn.data.audio.containers import links, ogg
from speechattn.data.audio.containers.find import find_links
from speechattn.data.audio.errors import AudioError, AudioWarning
from speechattn.data.audio.files import audio_blocks, audio_samples, load_audio

RATE = 16_000
NUM_SAMPLES = 36_000
ID3 = b"ID3\x04\0\0\0\0\x01\x10" + bytes(144)
TAG = b"TAG" + b"x" * 125
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 40, 0, 0xA0000000) + bytes(8) + bytes(40)
APE_1 = bytes(40) + b"APETAGEX" + struct.pack("<IIII", 1000, 72, 0, 0) + bytes(8)  # no header, which it got later
LYRICS_1 = b"LYRICSBEGIN" + b"x" * 1000 + b"LYRICSEND"
LYRICS_2 = b"LYRICSBEGIN" + b"x" * 9000 + b"009011LYRICS200"

pytestmark = pytest.mark.filterwarnings("ignore::speechattn.data.audio.errors.AudioWarning")


def sound(num_samples: int = NUM_SAMPLES, rate: int = RATE) -> np.ndarray:
    """A tone that grows from 0.1 to 0.4, noisy in every other quarter of a second: frames of a codec differ in size."""
    t = np.arange(num_samples)
    noise = np.random.default_rng(0).standard_normal(num_samples) * 0.01
    return (0.1 + 0.3 * t / num_samples) * np.sin(2 * np.pi * 440 * t / rate) + noise * (t * 4 // rate % 2)


@cache
def encoded(format: str, subtype: str = "PCM_16", rate: int = RATE, channels: int = 1, **options: Any) -> bytes:
    memory = io.BytesIO()
    with soundfile.SoundFile(memory, "w", rate, channels, format=format, subtype=subtype, **options) as file:
        file.write(np.stack([sound(NUM_SAMPLES * rate // RATE, rate)] * channels, 1))
    return memory.getvalue()


def mp3(mode: str = "VARIABLE", rate: int = RATE, channels: int = 1) -> bytes:
    return encoded("MP3", "MPEG_LAYER_III", rate, channels, bitrate_mode=mode, compression_level=0.3)


def without_table(data: bytes) -> bytes:
    """An MP3 without its first frame, which holds the table: recorded from a stream."""
    return data[data.find(data[:2], 40) :]


def counting(data: bytes, frames: int) -> bytes:
    """An MP3 whose table counts other frames."""
    at = max(data.find(b"Xing"), data.find(b"Info")) + 8
    return data[:at] + struct.pack(">I", frames) + data[at + 4 :]


def frames_of(data: bytes) -> int:
    """Return how many frames an MP3's table counts."""
    return int(struct.unpack(">I", data[data.find(b"Xing") + 8 :][:4])[0])


def flac(total: int, subtype: str = "PCM_16") -> bytes:
    """A FLAC whose header promises `total` samples."""
    data = encoded("FLAC", subtype)
    packed = int.from_bytes(data[18:26], "big")
    return data[:18] + (packed >> 36 << 36 | total).to_bytes(8, "big") + data[26:]


def sized(format: str, size: int, subtype: str = "PCM_16") -> bytes:
    """A WAV, AIFF or AU whose header promises `size` bytes of samples."""
    data = encoded(format, subtype)
    at = {"WAV": data.find(b"data") + 4, "AIFF": data.find(b"SSND") + 4, "AU": 8}[format]
    return data[:at] + struct.pack("<I" if format == "WAV" else ">I", size) + data[at + 4 :]


def odd_wav() -> bytes:
    """A WAV of 8-bit samples, one more than an even number, without the byte that makes the chunk even."""
    data = encoded("WAV", "PCM_U8")
    return data[:40] + struct.pack("<I", NUM_SAMPLES + 1) + data[44:] + b"\x80" + b"LIST\4\0\0\0abcd"


def opus(rate: int = RATE, channels: int = 1) -> bytes:
    return encoded("OGG", "OPUS", rate, channels)


def vorbis(rate: int = RATE, channels: int = 1) -> bytes:
    return encoded("OGG", "VORBIS", rate, channels)


def odd_rf64() -> bytes:
    """An RF64 with a chunk of three bytes before the samples, which libsndfile reads without padding alone."""
    data = encoded("RF64")
    at = data.index(b"data")
    return data[:at] + b"LIST\3\0\0\0abc" + data[at:]


WHOLE: dict[str, tuple[Callable[[], bytes], float]] = {
    "mp3, variable bit rate": (mp3, 1),
    "mp3, variable bit rate, no table": (lambda: without_table(mp3()), 1),
    "mp3, average bit rate, no table": (lambda: without_table(mp3("AVERAGE")), 1),
    "mp3, constant bit rate, no table": (lambda: without_table(mp3("CONSTANT")), 1),
    "mp3, two with tables": (lambda: mp3() * 2, 2),
    "mp3, two with tags": (lambda: (ID3 + mp3() + APE + TAG) * 2, 2),
    "mp3, the second has a table": (lambda: without_table(mp3()) + mp3(), 2),
    "mp3, of two rates": (lambda: without_table(mp3()) + without_table(mp3(rate=44_100)), 2),
    "mp3, mono and stereo": (lambda: without_table(mp3()) + without_table(mp3(channels=2)), 2),
    "mp3, the table counts too few": (lambda: counting(mp3(), 20), 1),
    "mp3, the table counts itself": (lambda: counting(mp3(), frames_of(mp3()) + 1), 1),
    "mp3, the table counts nothing": (lambda: mp3().replace(b"Xing\0\0\0\x0f", b"Xing\0\0\0\x0e"), 1),
    "mp3, zeros at the end": (lambda: without_table(mp3()) + bytes(3000), 1),
    "mp3, lyrics and tags at the end": (lambda: without_table(mp3()) + LYRICS_1 + LYRICS_2 + APE_1 + TAG, 1),
    "mp3, zeros and a tag at the end": (lambda: without_table(mp3()) + bytes(3000) + TAG, 1),
    "opus, chained": (lambda: opus() * 3, 3),
    "opus, chained, of two rates": (lambda: opus() + opus(48_000), 2),
    "vorbis, chained": (lambda: vorbis() * 2, 2),
    "vorbis, chained, of two rates": (lambda: vorbis() + vorbis(44_100), 2),
    "vorbis, mono and stereo": (lambda: vorbis() + vorbis(channels=2), 2),
    "vorbis, then opus": (lambda: vorbis() + opus(), 2),
    "vorbis, a tag at the end": (lambda: vorbis() + TAG, 1),
    "vorbis, zeros at the end": (lambda: vorbis() + bytes(3000), 1),
    "flac, no total": (lambda: flac(0), 1),
    "flac, total of 1": (lambda: flac(1), 1),
    "flac, total of one too few": (lambda: flac(NUM_SAMPLES - 1), 1),
    "flac, 24 bits, a third": (lambda: flac(NUM_SAMPLES // 3, "PCM_24"), 1),
    "flac, tags around it": (lambda: ID3 + flac(NUM_SAMPLES) + TAG, 1),
    "wav from ffmpeg's pipe": (lambda: sized("WAV", 0xFFFFFFFF), 1),
    "wav from SoX's pipe": (lambda: sized("WAV", 0x7FFFF000), 1),
    "wav from SoX's pipe, 24 bits": (lambda: sized("WAV", 0x7FFFF000 // 3 * 3, "PCM_24"), 1),
    "wav, 2^31 - 1": (lambda: sized("WAV", 0x7FFFFFFF), 1),
    "wav, 2^31": (lambda: sized("WAV", 0x80000000), 1),
    "wav from arecord's pipe": (lambda: sized("WAV", 0x7FFFFF00), 1),
    "wav, the last sector filled": (lambda: encoded("WAV") + bytes(512), 1),
    "wav, a tag at the end": (lambda: encoded("WAV") + TAG, 1),
    "wav, a chunk behind an odd one": (lambda: encoded("WAV") + b"LIST\3\0\0\0abc\0bext\2\0\0\0ab", 1),
    "wav, odd chunks without their byte": (lambda: encoded("WAV") + b"LIST\3\0\0\0abcbext\1\0\0\0aid3 \2\0\0\0ab", 1),
    "wav, an odd number of bytes": (lambda: odd_wav(), 1),
    "wav, big-endian": (lambda: encoded("WAV", endian="BIG"), 1),
    "wav, two tags before it": (lambda: ID3 * 2 + encoded("WAV"), 1),
    "au, a tag before it": (lambda: ID3 + encoded("AU"), 1),
    "rf64": (lambda: encoded("RF64"), 1),
    "rf64, an odd chunk without its byte": (lambda: odd_rf64(), 1),
    "wave64": (lambda: encoded("W64"), 1),
    "wave64, a chunk at the end": (lambda: w64_with_a_chunk(), 1),
    "wave64, 24 bits, a chunk at the end": (lambda: w64_with_a_chunk("PCM_24"), 1),
    **{f"wav, {codec}": (partial(encoded, "WAV", codec), 1) for codec in ("ULAW", "ALAW")},
    **{f"wav, {codec}": (partial(encoded, "WAV", codec), 1) for codec in ("IMA_ADPCM", "MS_ADPCM")},
    **{f"aiff, {codec}": (partial(encoded, "AIFF", codec), 1) for codec in ("ULAW", "FLOAT", "IMA_ADPCM")},
    "wav, extensible floats": (lambda: encoded("WAVEX", "FLOAT"), 1),
    "wav, no block size": (lambda: changed(encoded("WAV"), 32, bytes(2)), 1),
    "aiff, the header behind the samples": (lambda: comm_last(encoded("AIFF")), 1),
    "aiff": (lambda: encoded("AIFF"), 1),
    "aiff from a pipe": (lambda: sized("AIFF", 0x7FFFF000), 1),
    "au": (lambda: encoded("AU"), 1),
    "au from a pipe": (lambda: sized("AU", 0xFFFFFFFF), 1),
    "sphere": (lambda: encoded("NIST"), 1),
    "caf": (lambda: encoded("CAF", "ALAC_16"), 1),
}


def w64_with_a_chunk(subtype: str = "PCM_16") -> bytes:
    """A Wave64 with a chunk of 24 000 bytes behind its samples."""
    data = encoded("W64", subtype)
    data += bytes(-len(data) % 8)
    return data + b"list" + data[4:16] + struct.pack("<Q", 24_000) + bytes(23_976)


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def comm_last(data: bytes) -> bytes:
    """An AIFF whose header stands behind its samples."""
    at, sound = data.index(b"COMM"), data.index(b"SSND")
    return data[:at] + data[sound:] + data[at:sound]


def half(data: bytes) -> bytes:
    return data[: len(data) // 2 - 1]


def more(data: bytes) -> bytes:
    return data + np.random.default_rng(0).bytes(5000)


def half_zeroed(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


def half_other(data: bytes) -> bytes:
    return data[: len(data) // 2] + np.random.default_rng(0).bytes(len(data) - len(data) // 2)


def damaged(data: bytes, at: float) -> bytes:
    where = int(at * len(data))
    return data[:where] + bytes(255 - byte for byte in data[where : where + 20]) + data[where + 20 :]


def au_at(offset: int) -> bytes:
    """An AU whose header claims that the samples begin at `offset`."""
    data = encoded("AU")
    return data[:4] + offset.to_bytes(4, "big") + data[8:]


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "mp3, half": (lambda: half(mp3()), "truncated"),
    "mp3, half, no table": (lambda: half(without_table(mp3())), "truncated"),
    "mp3, the table counts more": (lambda: counting(mp3(), frames_of(mp3()) + 2), "truncated"),
    "mp3, bytes between frames": (lambda: without_table(mp3()) + bytes(300) + without_table(mp3()), "corrupt"),
    "mp3, half of zeros, no table": (lambda: half_zeroed(without_table(mp3())), "corrupt"),
    "mp3, half of other bytes, no table": (lambda: half_other(without_table(mp3())), "corrupt"),
    "mp3, more": (lambda: more(mp3()), "corrupt"),
    "mp3, then wav": (lambda: mp3() + encoded("WAV"), "corrupt"),
    "mp3, then flac": (lambda: mp3() + flac(NUM_SAMPLES), "corrupt"),
    "mp3, then vorbis": (lambda: mp3() + vorbis(), "corrupt"),
    "opus, half": (lambda: half(opus()), "truncated"),
    "opus, half and a whole": (lambda: half(opus()) + opus(), "corrupt"),
    "opus, half a second link": (lambda: opus() + half(opus()), "truncated"),
    "opus, damaged": (lambda: damaged(opus(), 0.5), "corrupt"),
    "vorbis, damaged in its last page": (lambda: damaged(vorbis(), 0.98), "corrupt"),
    "vorbis, bytes between links": (lambda: vorbis() + bytes(100) + vorbis(), "corrupt"),
    "vorbis, many zeros": (lambda: vorbis() + bytes(5000), "corrupt"),
    "vorbis, then mp3": (lambda: vorbis() + mp3(), "corrupt"),
    "vorbis, then wav": (lambda: vorbis() + encoded("WAV"), "corrupt"),
    "vorbis, two, the second damaged": (lambda: vorbis() + vorbis().replace(b"OggS", b"OggX"), "corrupt"),
    "vorbis, a tag before it": (lambda: ID3 + vorbis(), "unknown format"),  # libsndfile does not skip it
    "flac, two": (lambda: flac(NUM_SAMPLES) * 2, "corrupt"),
    "flac, half, no total": (lambda: half(flac(0)), "corrupt"),
    "flac, one too many": (lambda: flac(NUM_SAMPLES + 1), "truncated"),
    "wav, promises 500 samples": (lambda: sized("WAV", 1000), "wrong header"),
    "wav, promises none": (lambda: sized("WAV", 0), "wrong header"),
    "wav, promises none of silence": (lambda: sized("WAV", 0)[:44] + bytes(2000), "wrong header"),
    "wav, promises none of text": (lambda: sized("WAV", 0)[:44] + b"abcd" * 500, "wrong header"),
    "wav, promises 2.1 GB": (lambda: sized("WAV", 2_100_000_000), "truncated"),
    "wav, of 24 bits in 2 bytes": (lambda: changed(encoded("WAV"), 34, b"\x18"), "wrong header"),
    "wav, of 8 bits in 2 bytes": (lambda: changed(encoded("WAV"), 34, b"\x08"), "wrong header"),
    "wav, 10 channels in 2 bytes": (lambda: changed(encoded("WAV"), 22, b"\x0a"), "wrong header"),
    "wav, extensible, 10 channels in 2 bytes": (lambda: changed(encoded("WAVEX"), 22, b"\x0a"), "wrong header"),
    "wave64, 10 channels in 2 bytes": (lambda: changed(encoded("W64"), 66, b"\x0a"), "wrong header"),
    "wav, two": (lambda: encoded("WAV") * 2, "unknown format"),
    "wav, then aiff": (lambda: encoded("WAV") + encoded("AIFF"), "wrong header"),
    "rf64, then wav": (lambda: encoded("RF64") + encoded("WAV"), "wrong header"),
    "wave64, two": (lambda: encoded("W64") * 2, "wrong header"),
    "aiff, two": (lambda: encoded("AIFF") * 2, "unknown format"),
    "aiff, 33 channels": (lambda: changed(encoded("AIFF"), 21, b"\x21"), "wrong header"),
    "aiff, 24 bits": (lambda: changed(encoded("AIFF"), 27, b"\x18"), "wrong header"),
    "aiff, 500 samples": (lambda: changed(encoded("AIFF"), 22, struct.pack(">I", 500)), "wrong header"),
    "aiff, 33 channels behind the samples": (
        lambda: comm_last(changed(encoded("AIFF"), 21, b"\x21")),
        "wrong header",
    ),
    "aifc, 33 channels": (lambda: changed(encoded("AIFF", "PCM_U8"), 33, b"\x21"), "wrong header"),
    "rf64, half": (lambda: half(encoded("RF64")), "truncated"),
    "rf64, half, an odd chunk without its byte": (lambda: half(odd_rf64()), "truncated"),
    "wave64, half": (lambda: half(encoded("W64")), "truncated"),
    "wave64, more": (lambda: more(encoded("W64")), "wrong header"),
    "aiff, half": (lambda: half(encoded("AIFF")), "truncated"),
    "aiff, more": (lambda: more(encoded("AIFF")), "wrong header"),
    "aiff, promises 500 samples": (lambda: sized("AIFF", 1008), "wrong header"),
    "8svx, half": (lambda: half(encoded("SVX")), "truncated"),
    "au, half": (lambda: half(encoded("AU")), "truncated"),
    "au, promises 500 samples": (lambda: sized("AU", 1000), "wrong header"),
    "au, a header longer than the file": (lambda: au_at(10**6), "truncated"),
    "sphere, half": (lambda: half(encoded("NIST")), "truncated"),
    "sphere, more": (lambda: more(encoded("NIST")), "wrong header"),
    "caf, half": (lambda: half(encoded("CAF")), "unknown format"),
    "caf, a byte less": (lambda: encoded("CAF", "ALAC_16")[:-1], "truncated"),
    "caf, more": (lambda: more(encoded("CAF")), "wrong header"),
    "voc, whole or not": (lambda: encoded("VOC"), "unknown format"),
    "paf, whole or not": (lambda: encoded("PAF"), "unknown format"),
}


def by_path(data: bytes, folder: Path) -> np.ndarray:
    (folder / "a.snd").write_bytes(data)
    waveform, rate = load_audio(folder / "a.snd")
    assert rate == RATE
    return waveform.numpy()


def in_memory(data: bytes, folder: Path) -> np.ndarray:
    return load_audio(io.BytesIO(data))[0].numpy()


def in_blocks(data: bytes, folder: Path) -> np.ndarray:
    (folder / "a.snd").write_bytes(data)
    return np.concatenate(list(audio_blocks(str(folder / "a.snd"))))


@pytest.mark.parametrize("read", [by_path, in_memory, in_blocks])
@pytest.mark.parametrize("name", WHOLE)
def test_all_audio_of_a_file_is_decoded(name: str, read: Any, tmp_path: Path) -> None:
    make, times = WHOLE[name]
    data = make()
    waveform = read(data, tmp_path)
    assert len(waveform) == audio_samples(io.BytesIO(data))
    exact = times == 1 and not name.startswith("mp3")
    excess = len(waveform) - times * NUM_SAMPLES
    # An encoder's delay and its last frame stay where no table tells them.
    assert 0 <= excess <= (times * 4 * 1152 if name.startswith("mp3") else 512 if not exact else 2048)
    power, expected = np.square(waveform).sum(), times * np.square(sound()).sum()
    assert power == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("read", [by_path, in_memory, in_blocks])
@pytest.mark.parametrize("name", REFUSED)
def test_an_incomplete_file_is_refused_in_one_line(name: str, read: Any, tmp_path: Path) -> None:
    make, reason = REFUSED[name]
    with pytest.raises(AudioError) as caught:
        read(make(), tmp_path)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value) and "got -" not in str(caught.value)
    assert str(caught.value).startswith("<BytesIO>" if read is in_memory else str(tmp_path / "a.snd"))


@pytest.fixture(scope="module")
def model() -> sa.SpeechModel:
    encoder = sa.EncoderConfig(input_dim=8, d_model=8, num_heads=1, num_layers=1, d_ff=8, context=sa.Context(2, 0))
    return sa.SpeechModel(sa.ModelConfig(("SIL", "AA"), encoder, num_mels=8)).eval()


@pytest.mark.parametrize(
    "name", ["mp3, variable bit rate, no table", "opus, chained, of two rates", "flac, total of 1"]
)
def test_long_form_and_the_command_decode_to_the_end_too(
    name: str, model: sa.SpeechModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = WHOLE[name][0]()
    count = audio_samples(io.BytesIO(data))
    frames = model.config.framing.num_frames(count)
    rows = list(sa.encode_long(model, io.BytesIO(data), progress=False))
    assert sum(map(len, rows)) == frames
    (tmp_path / "a.snd").write_bytes(data)
    assert len(sa.encode_long(model, tmp_path / "a.snd", tmp_path / "rows.npy", progress=False)) == frames
    model.save(tmp_path / "model")
    capsys.readouterr()
    assert main(["stream", str(tmp_path / "a.snd"), "--model", str(tmp_path / "model"), "--format", "json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["stop_s"] == pytest.approx(count / RATE, abs=0.02)


def test_a_link_of_another_rate_is_resampled_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_warned", set())
    with pytest.warns(AudioWarning) as caught:
        waveform, rate = load_audio(io.BytesIO(vorbis() + vorbis(44_100, 2)), sample_rate=None)
    assert rate == RATE
    assert abs(len(waveform) - 2 * NUM_SAMPLES) <= 1
    assert {str(warning.message) for warning in caught} == {
        "<BytesIO>: 2 channels are averaged to one. Shown once.",
        "<BytesIO>: 44100 Hz is resampled to 16000 Hz. Shown once.",
    }


def test_damage_in_a_later_block_is_raised_after_the_samples_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sound_file, "BLOCK", 5000)
    given: list[np.ndarray] = []
    with pytest.raises(AudioError, match="decoding broke off"):
        given.extend(audio_blocks(io.BytesIO(half(flac(1)))))  # extend keeps what came before the error
    assert sum(map(len, given)) > 0.4 * NUM_SAMPLES


# Files that are open already


class Watched(io.BytesIO):
    """A file that remembers the largest piece that was asked for."""

    largest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.largest = max(self.largest, 2**62 if size is None or size < 0 else size)
        return super().read(size)


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "mp3"])
def test_a_file_is_read_in_pieces(format: str) -> None:
    subtype = {"ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}.get(format, "PCM_16")
    memory = io.BytesIO()
    soundfile.write(memory, np.zeros(800_000), RATE, format=format, subtype=subtype)
    file = Watched(memory.getvalue())
    assert sum(map(len, audio_blocks(file))) == 800_000
    assert 0 < file.largest <= links.PIECE


def test_a_file_is_read_from_its_position_which_is_restored(tmp_path: Path) -> None:
    data = encoded("FLAC")
    whole = load_audio(io.BytesIO(data))[0]
    file = io.BytesIO(b"before" + data)
    file.seek(6)
    assert torch.equal(load_audio(file)[0], whole)
    assert file.tell() == 6
    assert audio_samples(file) == NUM_SAMPLES
    odd = io.BytesIO(b"odd" + encoded("WAV", "PCM_U8") + b"LIST\3\0\0\0abc\0bext\2\0\0\0ab")
    odd.seek(3)
    assert len(load_audio(odd)[0]) == NUM_SAMPLES
    (tmp_path / "a.flac").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.flac", data)
    with tempfile.TemporaryFile() as file_on_disk:
        file_on_disk.write(data)
        file_on_disk.seek(0)
        assert torch.equal(load_audio(file_on_disk)[0], whole)
    with (tmp_path / "a.flac").open("rb", buffering=0) as raw:
        assert torch.equal(load_audio(raw)[0], whole)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive, archive.open("a.flac") as member:
        assert torch.equal(load_audio(member)[0], whole)  # type: ignore[arg-type]


def test_a_source_that_is_not_a_binary_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    data = encoded("WAV")
    (tmp_path / "a.wav").write_bytes(data)
    for read in (load_audio, audio_samples):
        with pytest.raises(TypeError, match=r"give io\.BytesIO\(data\)"):
            read(data)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a path or a binary file, got int"):
            read(3)  # type: ignore[arg-type]
        with (tmp_path / "a.wav").open(encoding="latin-1") as text, pytest.raises(TypeError, match='"rb"'):
            read(text)  # type: ignore[arg-type]
    end = io.BytesIO(data)
    end.seek(0, os.SEEK_END)
    with pytest.raises(AudioError, match=r"<BytesIO> is an empty file .*seek\(0\) first"):
        load_audio(end)
    reader, writer = os.pipe()
    os.close(writer)
    with open(reader, "rb") as pipe, pytest.raises(AudioError, match=r"cannot seek: give io\.BytesIO\(file\.read"):
        load_audio(pipe)


@pytest.mark.parametrize("rate", [8000.0, np.int32(8000), np.float32(8000), np.uint16(8000), torch.tensor(8000)])
def test_a_whole_rate_of_any_type_is_a_rate(rate: Any) -> None:
    data = encoded("WAV")
    waveform, given = load_audio(io.BytesIO(data), rate)
    assert (len(waveform), given, type(given)) == (NUM_SAMPLES // 2, 8000, int)
    assert audio_samples(io.BytesIO(data), rate) == NUM_SAMPLES // 2


# Bounds


def test_audio_that_does_not_fit_into_memory_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = io.BytesIO()
    soundfile.write(memory, np.zeros(1_000_000), RATE, format="FLAC")
    monkeypatch.setattr(files, "SMALL_BYTES", 0)
    monkeypatch.setattr(files, "available_bytes", lambda: 7_999_999)
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(AudioError, match="encode_long") as caught:
        load_audio(memory_at_start(memory))
    assert caught.value.reason == "too long"


def memory_at_start(memory: io.BytesIO) -> BinaryIO:
    memory.seek(0)
    return memory


@pytest.mark.parametrize(
    "name", ["mp3, two with tags", "vorbis, chained", "flac, tags around it", "wav, a tag at the end"]
)
def test_changed_bytes_give_audio_or_an_error_of_one_line(name: str) -> None:
    """Whatever is changed, nothing else is raised, and what is counted is what is decoded."""
    data, generator = WHOLE[name][0](), np.random.default_rng(0)
    for _ in range(30):
        changed = bytearray(data)
        for at in generator.integers(0, min(len(data), 300), 3):
            changed[at] = generator.integers(256)
        count = -1
        try:
            count = audio_samples(io.BytesIO(bytes(changed)), None)
            waveform, _ = load_audio(io.BytesIO(bytes(changed)), None)
        except AudioError as error:
            assert "\n" not in str(error)
        else:
            assert len(waveform) == count


@pytest.mark.parametrize("num_samples", [1, 3, 4000, 4001])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("format", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF"])
def test_any_number_of_samples_is_read(format: str, subtype: str, num_samples: int) -> None:
    """Chunks of odd sizes are padded, by libsndfile's AIFF within the size that is claimed."""
    subtype = "PCM_S8" if subtype == "PCM_U8" and format in ("AIFF", "CAF") else subtype
    memory = io.BytesIO()
    soundfile.write(memory, np.full(num_samples, 0.5), RATE, format=format, subtype=subtype)
    waveform, _ = load_audio(memory_at_start(memory))
    padding = num_samples % 2 if (format, subtype) == ("AIFF", "PCM_S8") else 0  # its header counts it as a sample
    assert len(waveform) == num_samples + padding
    assert torch.allclose(waveform[:num_samples], torch.tensor(0.5), atol=1 / 128)


@pytest.mark.parametrize("size", [2**63 - 8, 2**63, 2**64 - 1])
def test_a_chunk_that_claims_more_bytes_than_a_file_can_have_is_refused(size: int) -> None:
    """Wave64 has sizes of 64 bits: one of 2**63 or more led to an offset that no file can seek to, OverflowError."""
    data = encoded("W64")
    at = data.index(b"data")
    junk = b"junk" + data[at + 4 : at + 16] + size.to_bytes(8, "little")
    data = data[:at] + junk + data[at:]
    with pytest.raises(links.ContainerError, match="lead to no chunk of samples"):
        find_links(io.BytesIO(data), 0, len(data), "W64")


def test_a_table_that_the_end_of_the_file_cuts_counts_nothing() -> None:
    """A last MPEG frame of 24 bytes, the shortest, ends within a table's fields: struct.error in an earlier version."""
    frame = b"\xff\xf3\x14\xc0" + bytes(9)  # MPEG 2, layer 3, 8 kbit/s, 24 kHz, mono; side information of zeros
    sound_frames = (frame + bytes(11)) * 3
    data = sound_frames + frame + b"Info" + bytes(7)
    assert find_links(io.BytesIO(data), 0, len(data), "MP3") == [links.Link(0, 72, 3 * 576, padded=True)]


def test_an_mp3_without_a_table_that_is_cut_between_frames_is_read_as_complete() -> None:
    """A limitation, which containers/mpeg.py states: nothing in the file has the number of its frames."""
    frame = b"\xff\xf3\x14\xc0" + bytes(20)  # MPEG 2, layer 3, 8 kbit/s, 24 kHz, mono
    whole = frame * 5
    cut = whole[: 3 * len(frame)]
    assert find_links(io.BytesIO(cut), 0, len(cut), "MP3") == [links.Link(0, len(cut), 3 * 576, padded=True)]
    with pytest.raises(links.ContainerError, match="its last MPEG frame is cut"):
        find_links(io.BytesIO(whole[:-1]), 0, len(whole) - 1, "MP3")


def test_oggs_checksum_is_that_of_the_pages() -> None:
    """The check value of CRC-32 with polynomial 04C11DB7, neither reflected nor inverted, of "123456789"."""
    assert ogg.checksum(b"123456789") == 0x89A1897F.to_bytes(4, "little")
