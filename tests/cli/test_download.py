"""`speechattn download` and `train --download`, on loopback: several subsets, one line for a mistake, Ctrl-C."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from file_server import FileServer, serve

from speechattn.cli import main as cli
from speechattn.data.labelled_corpus import load_corpus
from speechattn.data.librispeech_archives import ARCHIVES, Archive
from speechattn.system import resumable_download

ROOT = Path(__file__).parents[2]
SUBSETS = ("test-clean", "dev-clean")


def pack(folder: Path, subset: str) -> bytes:
    """Return the archive of two speakers of one recording each; there is no sound in them."""
    for speaker in ("19", "26"):
        chapter = folder / "LibriSpeech" / subset / speaker / "198"
        chapter.mkdir(parents=True)
        (chapter / f"{speaker}-198-0000.flac").write_bytes(os.urandom(300_000))
        (chapter / f"{speaker}-198.trans.txt").write_text(f"{speaker}-198-0000 HELLO WORLD\n")
    with tarfile.open(folder / "x.tar.gz", "w:gz") as tar:
        tar.add(folder / "LibriSpeech", "LibriSpeech")
    return (folder / "x.tar.gz").read_bytes()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(resumable_download, "PAUSES_S", (0.0,) * 4)
    files = {}
    for subset in SUBSETS:
        files[f"{subset}.tar.gz"] = data = pack(tmp_path / f"made {subset}", subset)
        monkeypatch.setitem(ARCHIVES, subset, Archive(len(data), hashlib.sha256(data).hexdigest(), 2, 0.1))
    with serve(files) as mirror:
        yield mirror


def test_several_subsets_in_one_call_and_again(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "data"
    command = ["download", *SUBSETS, "dev-clean/", "--to", str(to), "--mirror", server.url]
    assert cli.main(command) == 0
    base = to / "LibriSpeech"
    assert capsys.readouterr().out.splitlines() == [f"{name}: 2 utterances in {base / name}" for name in SUBSETS]
    assert sorted(path.name for path in to.iterdir()) == ["LibriSpeech"]
    assert cli.main([*command, "--keep-archives"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == [f"{name}: 2 utterances in {base / name}, already there" for name in SUBSETS]
    assert len(server.asked) == 2


def test_mistakes_are_one_line_before_a_byte_is_asked_for(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    to = ["--to", str(tmp_path / "data"), "--mirror", server.url]
    for arguments, message in (
        (["test-clean", "dev-claen", *to], "no subset 'dev-claen': one of .*Did you mean dev-clean?"),
        (["test-clean"], "the following arguments are required: --to"),
        (["test-clean", *to, "--mirrors", "x"], "unknown option --mirrors: did you mean --mirror?"),
        (["test-clean", *to, "--mirror", "/srv"], "a mirror must begin with https://, http:// or file://, got '/srv'"),
        (["train-other-500", "test-clean", *to], "train-other-500, test-clean: 64.* GB are needed .* free"),
    ):
        if "train-other-500" in arguments:
            monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=9))
        assert cli.main(["download", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(message.replace("?", r"\?"), line)
    assert server.asked == [] and not (tmp_path / "data").exists()


def test_help_lists_the_subsets_with_their_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["download", "--help"])
    assert "train-clean-100  100.6 h   28539 utterances  6.39 GB\n" in capsys.readouterr().out


PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from speechattn.cli.main import main
from speechattn.data.librispeech_archives import ARCHIVES, Archive
ARCHIVES["dev-clean"] = Archive(int(sys.argv[3]), sys.argv[4], 2, 0.1)
sys.exit(main(["download", "dev-clean", "--to", sys.argv[1], "--mirror", sys.argv[2]]))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_has_arrived_and_says_how_to_continue(
    server: FileServer, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    known, to = ARCHIVES["dev-clean"], tmp_path / "data"
    server.stall = 1000  # the server sends this much and then nothing
    command = [sys.executable, "-c", PROGRAM, str(to), server.url, str(known.size), known.sha256]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        part = to / "LibriSpeech" / ".dev-clean.download" / "dev-clean.tar.gz.part"
        while process.poll() is None and not (part.exists() and part.stat().st_size == 1000):
            time.sleep(0.01)
        process.send_signal(number)
        _, shown = process.communicate(timeout=60)
    assert process.returncode == status
    assert shown.endswith(f"interrupted; what has arrived is kept in {to}. The same command continues.\n")
    assert "Traceback" not in shown and part.stat().st_size == 1000
    server.stall = None
    assert cli.main(["download", "dev-clean", "--to", str(to), "--mirror", server.url]) == 0
    assert server.asked == [None, "bytes=1000-"]


def test_train_fetches_what_is_not_there(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPEECHATTN_MIRROR", server.url)
    data = tmp_path / "data"
    command = ["train", "--download", "--data", str(data), "--alignments", str(data), "--out", str(tmp_path / "run")]
    command += ["--subset", "dev-clean", "--test-subsets", "test-clean"]
    for _ in range(2):
        assert cli.main(command) == 2  # the recordings have no sound, and there are no alignments
        shown = capsys.readouterr()
        assert "has no alignments of 'dev-clean'" in shown.err.splitlines()[-1]
        assert (data / "LibriSpeech" / "test-clean").is_dir()
        assert len(server.asked) == 2
    (data / "LibriSpeech" / "dev-clean" / "19" / "198" / "19-198-0000.flac").unlink()
    assert cli.main(command) == 2
    assert "dev-clean is used as it is: it holds 1 complete utterances of 2." in capsys.readouterr().err
    assert len(server.asked) == 2


def test_train_in_several_processes_says_to_download_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    command = ["train", "--download", "--data", str(tmp_path), "--labels", "speech", "--test-subsets", "test-other"]
    assert cli.main([*command, "--subset", "dev-clean"]) == 2
    assert f"as speechattn download dev-clean test-other --to {tmp_path}" in capsys.readouterr().err


def test_train_downloads_only_librispeech(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--download"]) == 2
    assert "--download fetches LibriSpeech: give --data DIR, where to put it" in capsys.readouterr().err
    assert cli.main(["train", "--download", "--data", "x", "--labels", "speech"]) == 2
    assert "LibriSpeech has no subset 'train': one of dev-clean" in capsys.readouterr().err


def test_a_real_subset_arrives_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, librispeech_tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        tar.add(librispeech_tiny / "LibriSpeech" / "test-clean", "LibriSpeech/test-clean")
        tar.add(librispeech_tiny / "LibriSpeech" / "LICENSE.TXT", "LibriSpeech/LICENSE.TXT")
    data = (tmp_path / "x.tar.gz").read_bytes()
    monkeypatch.setitem(ARCHIVES, "test-clean", Archive(len(data), hashlib.sha256(data).hexdigest(), 5, 0.01))
    with serve({"test-clean.tar.gz": data}) as mirror:
        assert cli.main(["download", "test-clean", "--to", str(tmp_path / "data"), "--mirror", mirror.url]) == 0
    alignments = librispeech_tiny / "alignments"
    arrived, given = (load_corpus(root, "test-clean", alignments) for root in (tmp_path / "data", librispeech_tiny))
    assert arrived.summary() == given.summary()
    for item, waveform in arrived.waveforms():
        assert torch.equal(waveform, given.read(item))
