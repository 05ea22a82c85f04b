"""A disk that filled while `encode_long` kept its state, or wrote its last few rows, ended in a bare OSError.

Nothing was lost, but neither the file nor what to do next was named. And two calls that met between the name of the
file and its lock wrote into the same one: the second into what the first had just finished.
"""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.encoder import Encoder
from speechattn.errors import UserError
from speechattn.streaming import resumable_array as resumable
from speechattn.streaming.long_form import encode_long
from speechattn.streaming.resumable_array import ResumableArray


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["write_bytes", "sync_directory"])
def test_a_full_disk_is_one_line_and_the_same_call_goes_on(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(4, d_model=8, num_heads=1, num_layers=1, context=Context.truncated(5, 3))).eval()
    frames, out = torch.randn(100, 4), tmp_path / "rows.npy"
    with monkeypatch.context() as patched, pytest.raises(UserError, match=r"rows\.npy.* cannot be written \(No space"):
        patched.setattr(resumable, where, full)
        encode_long(encoder, frames, out, block_frames=30, progress=False)
    rows = encode_long(encoder, frames, out, block_frames=30, progress=False)
    with torch.no_grad():
        assert np.abs(rows - encoder(frames[None])[0][0].numpy()).max() < 1e-5
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]


def test_rows_that_the_disk_takes_in_parts_are_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Narrow(resumable.FileIO):  # type: ignore[misc, name-defined]
        def write(self, data: Any) -> int:
            return super().write(bytes(data[:7]))  # type: ignore[no-any-return]

    monkeypatch.setattr(resumable, "FileIO", Narrow)
    with ResumableArray(tmp_path / "rows.npy", 3, np.float32, "me") as array:
        array.append(torch.arange(12.0).view(4, 3))
        array.finish()
    assert np.array_equal(np.load(tmp_path / "rows.npy"), np.arange(12).reshape(4, 3))


def test_a_second_writer_that_comes_as_the_first_ends_leaves_its_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, lock = tmp_path / "rows.npy", fcntl.flock
    first, second = (ResumableArray(out, 2, np.float32, name) for name in ("first", "second"))
    first.__enter__()
    first.append(torch.ones(5, 2))

    def locked_too_late(file: Any, how: int) -> None:
        monkeypatch.undo()
        first.finish()
        first.__exit__(None, None, None)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", locked_too_late)
    with second as array:
        assert array.resume(()) is None
        array.append(torch.zeros(3, 2))
        assert np.array_equal(np.load(out), np.ones((5, 2)))
        array.finish()
    assert np.array_equal(np.load(out), np.zeros((3, 2)))
