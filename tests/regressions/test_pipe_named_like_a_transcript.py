"""A named pipe called *.trans.txt hung the walk over a corpus for ever: opening a pipe waits for its writer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from speechattn.data.librispeech import LibriSpeech
from speechattn.errors import DataError


def test_a_pipe_is_no_transcript(tmp_path: Path) -> None:
    chapter = tmp_path / "train" / "1" / "2"
    chapter.mkdir(parents=True)
    (chapter / "1-2-0000.flac").write_bytes(b"never opened")
    os.mkfifo(chapter / "1-2.trans.txt")
    with pytest.raises(DataError, match="1 recordings without a transcript: 1-2-0000"):
        LibriSpeech(tmp_path, "train")
