"""A trace tells exactly what was alive, who made it and in which line, and finds the layer of every operation."""

import csv
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import Tensor, nn

from speechattn.attention.functional import attention
from speechattn.attention.native.attention import native_unavailable
from speechattn.attention.native.launch import HUGE_PAGES
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.encoder import Encoder
from speechattn.errors import UserError
from speechattn.plots.memory_timeline import memory_alive
from speechattn.profiling.isolated import CannotRunError
from speechattn.profiling.settings import Settings
from speechattn.profiling.tensor_memory import PeakTensors
from speechattn.profiling.trace import report as traced
from speechattn.profiling.trace import tensor_lifetimes as alive
from speechattn.profiling.trace.module_marks import ModuleMarks
from speechattn.profiling.trace.trace import Trace, trace

needs_native = pytest.mark.skipif(native_unavailable() is not None, reason=str(native_unavailable()))


class Known(nn.Module):
    """Tensors of known size, each with a line of its own."""

    def forward(self, x: Tensor) -> Tensor:
        a = x + 1  # 4000 bytes
        b = torch.cat([a, a])  # 8000
        del a
        c = b.double()  # 16000
        d = c.view(2, 1000)[0]  # nothing
        e = d[:50] * 2  # 400
        del b
        return e.sum() + c.sum()


def line_of(text: str) -> str:
    """Where `text` stands in Known, as a trace says it."""
    lines, first = inspect.getsourcelines(Known)
    place = next(number for number, line in enumerate(lines) if text in line)
    return f"tests/profiling/test_trace.py:{first + place}"


def test_peak_and_tensors_are_exact_to_the_byte_and_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    x, model = torch.zeros(1000), Known()
    found = trace(lambda: model(x), model, [x])
    assert found.peak_bytes == 8000 + 16000 + 400 and found.known_bytes == 4000
    assert [(held.bytes, held.shape, held.dtype, held.operation, held.line) for held in found.largest] == [
        (16000, (2000,), "float64", "aten::_to_copy", line_of("b.double()")),
        (8000, (2000,), "float32", "aten::cat", line_of("torch.cat")),
        (400, (50,), "float64", "aten::mul", line_of("d[:50]")),
    ]
    assert {held.layer for held in found.largest} == {"encoder"} and not any(held.kept for held in found.largest)
    made = {row.operation: row.made_bytes for row in found.operations if row.made_bytes}
    assert made == {
        "aten::add": 4000 + 8,
        "aten::cat": 8000,
        "aten::_to_copy": 16000,
        "aten::mul": 400,
        "aten::sum": 16,
    }
    at_peak = {row.operation: row.peak_bytes for row in found.operations if row.peak_bytes}
    assert at_peak == {"aten::_to_copy": 16000, "aten::cat": 8000, "aten::mul": 400}


def test_a_trace_has_the_ten_largest_tensors() -> None:
    model = nn.Identity()
    found = trace(lambda: [model(torch.zeros(size)) for size in range(1, 21)], model)
    assert [held.bytes for held in found.largest] == [4 * size for size in range(20, 10, -1)]
    assert found.peak_bytes == 4 * sum(range(1, 21))


def test_what_numpy_made_counts_when_torch_first_sees_it() -> None:
    model = nn.Identity()
    found = trace(lambda: torch.from_numpy(np.zeros(500, np.float32)) + 1, model)
    assert found.peak_bytes == 4000 and [held.bytes for held in found.largest] == [2000, 2000]


def encoder(**settings: Any) -> Encoder:
    config = EncoderConfig(
        16, d_model=32, num_heads=2, num_layers=2, dropout=0.0, context=Context.truncated(4, 2), **settings
    )
    return Encoder(config)


def learn(model: nn.Module, x: Tensor) -> None:
    model(x)[0].square().mean().backward()


def layers_with(found: Trace, operation: str, backward: bool) -> list[str]:
    rows = [row for row in found.operations if row.operation == operation and row.backward == backward]
    return sorted(row.layer for row in rows)


LINEAR = ["attention.output", "attention.query_key_value", "feed_forward.1", "feed_forward.3"]
BLOCKS = [f"blocks.{block}.{name}" for block in (0, 1) for name in LINEAR]


@pytest.mark.parametrize("native", ["0", pytest.param("1", marks=needs_native)])
def test_layers_of_an_encoder_have_their_operations(native: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHATTN_NATIVE", native)
    model, x = encoder().eval(), torch.randn(1, 200, 16)
    with torch.no_grad():
        found = trace(lambda: model(x), model, [x])
    assert layers_with(found, "aten::addmm", False) == sorted([*BLOCKS, "input"])
    assert not any(row.backward for row in found.operations)
    attended = [row for row in found.operations if row.layer == "blocks.1.attention" and row.made_bytes]
    assert sum(row.made_bytes for row in attended) >= 4 * 200 * 32
    kernel = [row for row in found.operations if row.operation == "speechattn::native"]
    if native == "1":
        assert sorted((row.layer, row.calls) for row in kernel) == [(f"blocks.{n}.attention", 1) for n in (0, 1)]
        assert all(row.made_bytes == 4 * 200 * 32 and row.self_ms > 0 for row in kernel)
    else:
        assert not kernel and any("scaled_dot_product" in row.operation for row in attended)


@pytest.mark.parametrize("native", ["0", pytest.param("1", marks=needs_native)])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_finds_what_is_kept_and_whose_gradient_it_is(
    native: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEECHATTN_NATIVE", native)
    model, x = encoder(gradient_checkpointing=checkpointing).train(), torch.randn(1, 200, 16)
    learn(model, x)
    found = trace(lambda: learn(model, x), model, [x])
    assert layers_with(found, "aten::mm", True) == sorted([*BLOCKS, "input"])
    assert layers_with(found, "aten::addmm", True) == (sorted(BLOCKS) if checkpointing else [])
    wide = [held for held in found.largest if held.shape[-1] == 4 * 32]
    assert all(
        ".feed_forward." in held.layer and held.line.startswith("speechattn/encoder/blocks.py:") for held in wide
    )
    assert [held.kept for held in wide] == [not checkpointing] * len(wide) and wide
    if native == "1":
        assert layers_with(found, "speechattn::native_backward", True) == [f"blocks.{n}.attention" for n in (0, 1)]
    gradients = [row for row in found.operations if row.backward and row.made_bytes and row.layer != "outside"]
    assert {row.layer.split(".")[0] for row in gradients} == {"input", "blocks", "norm"}


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_the_peak_is_that_of_the_counter(mode: str) -> None:
    model, x = encoder().train(), torch.randn(2, 300, 16)
    learn(model, x)
    run = (lambda: learn(model, x)) if mode == "training" else torch.no_grad()(lambda: model(x))
    found = trace(run, model, [x])
    with PeakTensors([x, *(each for p in model.parameters() for each in (p, p.grad) if each is not None)]) as counted:
        run()
    assert found.peak_bytes == counted.peak_bytes
    assert sum(row.peak_bytes for row in found.operations) == found.peak_bytes
    assert sum(sizes[found.curve.peak] for sizes in found.curve.parts.values()) == found.peak_bytes
    assert max(map(sum, zip(*found.curve.parts.values(), strict=True))) == found.peak_bytes
    assert (found.curve.turn is not None) == (mode == "training")


@needs_native
def test_a_native_output_on_huge_pages_is_counted() -> None:
    frames = HUGE_PAGES // (4 * 64)
    q, model = torch.randn(1, 1, frames, 64), nn.Identity()
    found = trace(lambda: attention(q, q, q, Context.truncated(2, 0), backend="native"), model, [q])
    assert found.largest[0][:2] == (HUGE_PAGES, (1, 1, frames, 64)) and found.peak_bytes >= HUGE_PAGES


def test_the_layers_of_a_stream_are_marked() -> None:
    model, x = encoder().eval(), torch.randn(1, 60, 16)

    def run() -> None:
        state = model.initial_state()
        for push in torch.split(x, 20, 1):
            _, state = model.step(push, state)
        model.flush(state)

    found = trace(run, model, [x])
    marks = {row.layer: row.calls for row in found.operations if row.operation == "(python)"}
    assert marks["blocks.0"] == marks["blocks.1.attention"] == 4 and marks["encoder"] == 3
    assert all("step" not in vars(module) for module in model.modules())


def test_a_chrome_trace_names_the_layers_of_both_passes(tmp_path: Path) -> None:
    model, x = encoder().train(), torch.randn(1, 100, 16)
    trace(lambda: learn(model, x), model, [x], tmp_path / "trace.json", rounds=2)
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    bars = [event for event in events if event.get("cat") == "user_annotation"]
    assert {event["ph"] for event in bars} == {"X"} and all(event["dur"] >= 0 for event in bars)
    names = {event["name"] for event in bars}
    assert {"encoder", "blocks.0.attention", "backward of blocks.1", "backward of blocks.0.feed_forward.1"} <= names
    forward = next(event for event in bars if event["name"] == "encoder")
    inside = [event for event in events if event.get("name") == "aten::addmm"]
    assert inside and all(forward["ts"] <= event["ts"] <= forward["ts"] + forward["dur"] for event in inside)


def test_nothing_stays_behind_when_a_pass_fails() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 5))
    layers = ModuleMarks(model)
    with pytest.raises(RuntimeError), layers:
        model(torch.zeros(1, 4))
    assert layers.current == "outside"
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_more_than_a_log_has_room_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alive, "MAX_EVENTS", 10)
    with pytest.raises(CannotRunError, match="shorter --duration"):
        trace(lambda: [torch.zeros(1) for _ in range(20)], nn.Identity())


SMALL = EncoderConfig(16, d_model=32, num_heads=2, num_layers=2, dropout=0.0, position_encoding="none")


@pytest.fixture
def nearby(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process of its own: quicker, and what is measured there is tested there."""
    monkeypatch.setattr(traced, "in_fresh_process", lambda function, *given, **_: function(*given))


@pytest.mark.usefixtures("nearby")
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_the_command_writes_and_says_where_it_went(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert traced.run_trace(Settings(SMALL, mode=mode), ["truncated"], [2.0], tmp_path / "a") == 0
    message = capsys.readouterr().out
    assert f"truncated over 2 s, {mode} on the CPU, threads: 1" in message and len(message.splitlines()) < 45
    for word in ("blocks.1", "aten::addmm", "at the peak", "speechattn/encoder/blocks.py:", "all "):
        assert word in message
    assert ("backward ms" in message) == ("kept for backward" in message) == (mode == "training")
    rows = list(csv.DictReader((tmp_path / "a" / "operations.csv").read_text().splitlines()))
    assert {"blocks.0.feed_forward.3", "norm"} <= {row["layer"] for row in rows}
    times = [float(row["self_ms"]) for row in rows]
    assert times == sorted(times, reverse=True)
    tensors = list(csv.DictReader((tmp_path / "a" / "tensors.csv").read_text().splitlines()))
    sizes = [int(row["bytes"]) for row in tensors]
    assert len(sizes) <= 10 and sizes == sorted(sizes, reverse=True) and "x" in tensors[0]["shape"]
    assert json.loads((tmp_path / "a" / "trace.json").read_text())["traceEvents"]
    assert (tmp_path / "a" / "memory.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("encoders", "lengths", "out"),
    [(["truncated", "full"], [1.0], "a"), (["full"], [1.0, 2.0], "a"), (["full"], [1.0], "")],
)
def test_a_trace_is_of_one_encoder_and_one_length_and_has_a_folder(
    encoders: list[str], lengths: list[float], out: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="--encoders truncated --duration 60s --out"):
        traced.run_trace(Settings(SMALL), encoders, lengths, tmp_path / out if out else None)


def test_what_cannot_run_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise CannotRunError("needs more memory than 0.1 GB")

    monkeypatch.setattr(traced, "in_fresh_process", fails)
    with pytest.raises(UserError, match="full over 1 h cannot be traced: needs more memory"):
        traced.run_trace(Settings(SMALL), ["full"], [3600.0], tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="choose another --out"):
        traced.run_trace(Settings(SMALL), ["full"], [1.0], tmp_path / "file" / "a")


@pytest.mark.slow
def test_a_process_of_its_own_traces_and_says_nothing_else(tmp_path: Path) -> None:
    arguments = ["--trace", "--encoders", "truncated", "--duration", "1s", "--num-layers", "1", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "speechattn", "profile", *arguments]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert (ran.returncode, ran.stderr) == (0, "") and "blocks.0" in ran.stdout
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"operations.csv", "tensors.csv", "trace.json", "memory.png"}


def test_a_picture_of_memory_tells_the_peak_by_part() -> None:
    parts = {f"part {n}": [0, n * 10**6, 0] for n in range(1, 10)}
    figure = memory_alive(parts, seconds=3.0, peak=1, turn=2)
    message = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    assert {"45 MB at the peak", "part 9  9 MB", "part 4  4 MB", "the rest  6 MB", "forward", "backward"} <= set(
        message
    )
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    moments = memory_alive({"blocks": [0, 10**6], "outside": [25 * 10**6, 8]}, seconds=1.0, peak=1)
    message = [text.get_text() for text in moments.findobj(matplotlib.text.Text)]
    assert {"sums of the blocks  1 MB", "outside the encoder  0, once 25 MB"} <= set(message)
    empty = memory_alive({}, 0.0, 0)
    assert "no tensors" in [text.get_text() for text in empty.findobj(matplotlib.text.Text)]


@pytest.mark.gpu
def test_a_gpu_is_traced_like_the_cpu(tmp_path: Path) -> None:
    model, x = encoder().cuda().train(), torch.randn(1, 500, 16, device="cuda")
    learn(model, x)
    found = trace(lambda: learn(model, x), model, [x], tmp_path / "trace.json")
    assert layers_with(found, "aten::mm", True) == sorted([*BLOCKS, "input"])
    assert found.passed_ms > 0 and found.peak_bytes > 4 * 500 * 4 * 32
