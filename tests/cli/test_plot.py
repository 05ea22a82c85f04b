"""`speechattn plot`: any context or saved model into a file, and one line for every mistake."""

import subprocess
import sys
from pathlib import Path

import pytest

from speechattn.cli import main as cli
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.model_config import ModelConfig
from speechattn.models.pretrained import load_pretrained
from speechattn.models.speech_model import SpeechModel
from speechattn.streaming.stream import Stream

WITHOUT_TORCH = """
import sys
from speechattn.cli.main import main
try:
    status = main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code
print(status, "torch" in sys.modules)
"""


def without_torch(*arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "plot", *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.stdout.endswith("\n0 False\n"), ran.stdout + ran.stderr
    return ran.stdout


def drawn(*arguments: str, out: Path) -> str:
    """The SVG that the command writes, its words as comments."""
    assert cli.main(["plot", *arguments, "--out", str(out)]) == 0
    return out.read_text(encoding="utf-8", errors="replace")


def test_a_context_is_drawn_without_torch(tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    message = without_torch("--left", "2", "--right", "1", "--layers", "2", "--out", str(out))
    assert out.read_bytes().startswith(b"\x89PNG") and "left 2, right 1" in message and str(out) in message


def test_the_same_context_gives_the_same_picture(tmp_path: Path) -> None:
    drawn("--left", "3", out=tmp_path / "a.PDF")
    drawn("--left", "3", out=tmp_path / "b.PDF")
    assert (tmp_path / "a.PDF").read_bytes() == (tmp_path / "b.PDF").read_bytes()


def test_help_tells_the_options_without_torch() -> None:
    assert "--hop-ms" in without_torch("--help")


def test_one_context_a_layer_and_a_hop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--context", "8,4", "--context", "all,0,4", "--hop-ms", "12.5", "--title", "Mine & yours")
    picture = drawn(*arguments, out=tmp_path / "a.svg")
    assert "<!-- Mine &amp; yours -->" in picture and "<!-- 4 = 50 ms -->" in picture and "all before" in picture
    table = capsys.readouterr().out
    assert "1      left 8, right 4 " in table and "2      left all, right 0, chunk 4 " in table and "50 ms" in table


def test_all_is_no_limit_and_the_rest_has_defaults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = drawn("--left", "all", out=tmp_path / "a.svg")
    assert "<!-- left all, right 0 through 6 layers -->" in picture
    assert (tmp_path / "a.svg").stat().st_size > 10_000
    assert capsys.readouterr().out.endswith("a.svg\n")


def test_a_saved_model_is_drawn_with_all_that_it_mixes(tmp_path: Path) -> None:
    encoder = EncoderConfig(
        26, d_model=16, num_layers=2, num_heads=2, block="conformer", conv_lookahead=3, context=Context.chunked(4, 8)
    )
    SpeechModel(ModelConfig(("SIL", "AA"), encoder, features="mfcc", num_ceps=13, deltas=1)).save(tmp_path / "mine")
    picture = drawn("--model", str(tmp_path / "mine"), out=tmp_path / "a.svg")
    for word in ("mine: conformer, 2 layers", "delta 1", "layer 2 conv", "its chunk of 4,", "frontend 12.5 ms"):
        assert word in picture


def test_the_shipped_model_is_as_late_as_its_stream(tmp_path: Path) -> None:
    picture = drawn("--model", out=tmp_path / "a.svg")
    latency_ms = Stream(load_pretrained()).algorithmic_latency_ms
    assert f"<!-- {latency_ms} -->" in picture and "splice" in picture


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--out a.png", "no context to plot: give --left 64"),
        ("--left 3", "required: --out"),
        ("--left -3 --out a.png", "0 or more, or all, got '-3'"),
        ("--left 2.5 --out a.png", "got '2.5'"),
        ("--left 3 --right none --out a.png", "got 'none'"),
        ("--left 3 --layers 0 --out a.png", "1 or more, got '0'"),
        ("--left 3 --layers 101 --out a.png", "at most 100"),
        ("--left 3 --chunk 0 --out a.png", "1 or more, got '0'"),
        ("--left 1000001 --out a.png", "more than 1,000,000 frames"),
        ("--left 3 --hop-ms nan --out a.png", "above 0, got 'nan'"),
        ("--left 3 --hop-ms ten --out a.png", "above 0, got 'ten'"),
        ("--context 3 --out a.png", "left,right,chunk, as 64,8,16, got '3'"),
        ("--context 3,x --out a.png", "got 'x'"),
        ("--context=-1,2 --out a.png", "got '-1'"),
        ("--context 3,3 --context 2,2 --layers 2 --out a.png", "a layer each"),
        ("--context 3,3,99991 --context 3,3,99989 --out a.png", "begin together too seldom"),
        ("--context 3,3 --left 3 --out a.png", "--left and --context exclude each other"),
        ("--context 3,3 --model --out a.png", "--context and --model exclude each other"),
        ("--model /absent --out a.png", "/absent is not a saved model"),
        ("--model --layers 3 --out a.png", "--layers is not for --model"),
        ("--model --hop-ms 3 --out a.png", "--hop-ms is not for --model"),
        ("--left 3 --out a.jpg", "must end in .png or .svg or .pdf"),
        ("--left 3 --out /absent/a.png", "its folder is missing or not yours"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPEECHATTN_DEBUG", raising=False)
    assert cli.main(["plot", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("speechattn.system.atomic_files.write_bytes", full)
    assert cli.main(["plot", "--left", "3", "--out", str(tmp_path / "a.png")]) == 2
    assert "No space left on device" in capsys.readouterr().err
