"""A named pipe called *.trans.txt hung the walk over a corpus for ever: opening a pipe waits for its writer."""

from __future__ import annotations

import os
from pathlib import Path

from speechattn.data.librispeech import LibriSpeech


def test_a_pipe_is_no_transcript(tmp_path: Path) -> None:
    chapter = tmp_path / "train" / "1" / "2"
    chapter.mkdir(parents=True)
    (chapter / "1-2-0000.flac").write_bytes(b"never opened")
    os.mkfifo(chapter / "1-2.trans.txt")
    assert [(u.id, u.transcript) for u in LibriSpeech(tmp_path, "train")] == [("1-2-0000", None)]
