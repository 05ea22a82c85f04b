"""`speechattn align`: one recording in seconds, subsets with pictures, and one line for each mistake."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from noise_corpus import write_corpus, write_utterance

from speechattn.alignment import subsets
from speechattn.alignment.rounds import align_corpus
from speechattn.cli import main as cli
from speechattn.data.labels.ctm import read_ctm
from speechattn.data.labels.textgrid import read_textgrid

ROOT = Path(__file__).parents[2]
LOADED = "import sys; from speechattn.cli.main import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_corpus(tmp_path)
    return tmp_path


@pytest.fixture
def recording(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound file in the current folder."""
    monkeypatch.chdir(corpus)
    path = corpus / "my voice.wav"
    soundfile.write(path, np.random.default_rng(0).standard_normal(24_000) / 20, 16_000)
    return path


def test_one_recording_is_aligned_into_the_current_folder(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["align", recording.name, "--text", "Hello, WORLD!", "--lexicon", "my.dict", "--plot"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "start_s\tstop_s\tword" and [line.split("\t")[2] for line in lines[1:3]] == ["hello", "world"]
    assert any(re.match(r"score -\d+\.\d\d \(0 is the best", line) for line in lines)
    words, phones = read_textgrid("my voice.TextGrid")
    assert words.stop_s == phones.stop_s == 1.5
    assert [s.label for s in phones.segments if s.label] == ["HH", "AH", "L", "OW", "W", "ER", "L", "D"]
    assert [word.label for word in read_ctm("my voice.words.ctm")["my_voice"]] == ["hello", "world"]
    assert Path("my voice.png").read_bytes().startswith(b"\x89PNG")
    assert cli.main(["align", recording.name, "--text", "hello", "--lexicon", "my.dict"]) == 2
    assert "my voice.TextGrid exists, and is not overwritten" in capsys.readouterr().err
    recording.with_suffix(".txt").write_text("hello\nworld\n")
    assert cli.main(["align", recording.name, "--lexicon", "my.dict", "--out", "new/folder"]) == 0
    tier = read_textgrid("new/folder/my voice.TextGrid")[0]
    # In a recording of noise silence may lie anywhere.
    assert [segment.label for segment in tier.segments if segment.label] == ["hello", "world"]


@pytest.mark.usefixtures("recording")
def test_the_picture_of_a_recording_gets_the_name_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--text", "hello " * 16, "--lexicon", "my.dict"]
    soundfile.write("long.wav", np.random.default_rng(0).standard_normal(80_000) / 20, 16_000)
    assert cli.main(["align", "long.wav", *words, "--plot", "see.png"]) == 0
    assert Path("see.png").read_bytes().startswith(b"\x89PNG") and not Path("long.png").exists()
    assert capsys.readouterr().out.endswith("see.png\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "my voice.wav"], "the following arguments are required: AUDIO"),
        (["my voice.wav", "--text", "hello", "--plot", "a.jpg"], "--plot a.jpg must end in .png"),
        (["none.wav"], "none.wav does not exist. Give a sound file, or a corpus with --data DIR --subset NAME."),
        (["."], ". is a folder: give it with --data ., and --out DIR."),
        (["my voice.wav"], "give the words of my voice.wav as a file, or with --text 'WORDS'"),
        (["my voice.wav", "none.txt"], "none.txt does not exist"),
        (["my voice.wav", "my.dict", "--text", "hello"], "--text and my.dict are two transcripts"),
        (["my voice.wav", "--text", "hello мир", "--lexicon", "my.dict"], "no pronunciation of мир; write it"),
        (["my voice.wav", "--text", "?!", "--lexicon", "my.dict"], "no words in the transcript."),
        (["my voice.wav", "--text", "hello " * 99, "--lexicon", "my.dict"], "shorter than its phones: "),
        (["my.dict", "--text", "hello", "--lexicon", "my.dict"], "my.dict: cannot be decoded: "),
        (["my voice.wav", "--text", "hello", "--lexicon", "bad.dict"], "bad.dict:2: word 'b': unknown phone 'Q'"),
        (["my voice.wav", "--text", "hello", "--lexicon", "none.dict"], "none.dict cannot be read"),
        (["my voice.wav", "--text", "hello", "--lexicon", "my.dict", "--model", "."], "--model . holds no finished"),
        (["--data", ".", "--subset", "none", "--out", "o", "--lexicon", "my.dict"], "no subset 'none'"),
        (["--data", "."], "required: --out"),
        (["--data", ".", "--out", "o", "--lexicon", "my.dict"], "give a subset with --subset, found "),
        (["--data", ".", "--subset", "train", "--out", "o", "--reference", "none"], "--reference none does not exist"),
        (["--data", ".", "--subset", "train", "--out", "o", "--max-bad", "5"], "max_bad must be a share"),
    ],
)
@pytest.mark.usefixtures("recording")
def test_a_mistake_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.dict").write_text("a AH0\nb Q\n")
    assert cli.main(["align", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1


@pytest.mark.usefixtures("recording")
def test_without_espeak_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    assert cli.main(["align", "my voice.wav", "--text", "hello"]) == 2
    assert re.search(r"pip install espeakng-loader .*--lexicon FILE", capsys.readouterr().err)


def test_subsets_are_aligned_drawn_and_compared(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", corpus, "--lexicon", corpus / "my.dict", "--model", "small-en-phones", "--min-score", "-100"]
    align = ["align", *map(str, options), "--subset", "train", "--out"]
    assert cli.main([*align, str(corpus / "a")]) == 0
    write_utterance(corpus, "train", "6-1-0000", "hello world")
    capsys.readouterr()
    assert cli.main([*align, str(corpus / "b"), "--reference", str(corpus / "a"), "--plot", "2"]) == 0
    printed = capsys.readouterr().out
    assert f"train: 5 utterances of {corpus / 'a'}: 100.0% of the frames equal" in printed
    assert "within 20 ms 100.0%, within 50 ms 100.0%" in printed
    assert len(list((corpus / "b" / "pictures").glob("*.png"))) == 2
    assert json.loads((corpus / "b" / "align.json").read_text())["subsets"].keys() == {"train"}


def test_help_needs_no_torch() -> None:
    code = f"{LOADED}print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code, "align", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert "--textgrids" in ran.stdout and ran.stdout.endswith("False\n")


def test_a_signal_ends_it_with_a_promise(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return align_corpus(*arguments)

    monkeypatch.setattr(subsets, "align_corpus", interrupted)
    options = ["--data", corpus, "--lexicon", corpus / "my.dict", "--model", "small-en-phones", "--out", corpus / "a"]
    assert cli.main(["align", *map(str, options), "--subset", "train", "--min-score", "-100"]) == 143
    assert "The same command continues." in capsys.readouterr().out
