"""Which points are measured, which are not tried again, and which not at all; the measuring itself is played here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from speechattn.config import EncoderConfig
from speechattn.errors import UserError
from speechattn.profiling import runner as module
from speechattn.profiling.isolated import CannotRunError
from speechattn.profiling.results import Measurement, read_profile
from speechattn.profiling.settings import Settings

SETTINGS = Settings(EncoderConfig(80, d_model=8, num_heads=2, num_layers=1), memory_bytes=4 * 10**9, timeout_s=100.0)
MACHINE = {"cpu": "a processor", "cores": 2, "memory_bytes": 8 * 10**9, "versions": {"torch": "2.0"}, "commit": "abc"}
Played = Callable[[Measurement], Measurement]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets `measure` be a function of the point, and returns the list of what was asked of it."""
    monkeypatch.setattr(module, "describe_machine", lambda device: dict(MACHINE))
    monkeypatch.setattr(module, "_check_limit", lambda *_: None)

    def play(answer: Played) -> list[tuple[str, float]]:
        asked: list[tuple[str, float]] = []

        def measure(settings: Settings, point: Measurement) -> Measurement:
            asked.append((point.encoder, point.audio_s))
            return answer(point)

        monkeypatch.setattr(module, "measure", measure)
        return asked

    return play


def works(point: Measurement) -> Measurement:
    return replace(point, status="ok", seconds=point.audio_s / 100, passed_s=point.audio_s / 100)


def test_points_come_shortest_first_and_are_not_measured_twice(tmp_path: Path, played: Any) -> None:
    asked = played(works)
    module.run_profile(SETTINGS, ["truncated", "full"], [60.0, 10.0, 60.0], tmp_path)
    assert asked == [("truncated", 10.0), ("full", 10.0), ("truncated", 60.0), ("full", 60.0)]
    asked = played(works)
    found = module.run_profile(SETTINGS, ["full", "truncated"], [10.0, 60.0, 600.0], tmp_path)
    assert asked == [("full", 600.0), ("truncated", 600.0)]
    assert len(found.points) == 6 and read_profile(tmp_path / "profile.json") == found
    asked = played(works)
    module.run_profile(SETTINGS, ["full"], [10.0], tmp_path, restart=True)
    assert asked == [("full", 10.0)]


def test_what_failed_is_not_tried_longer(tmp_path: Path, played: Any) -> None:
    def runs_out(point: Measurement) -> Measurement:
        failed = point.encoder == "full" and point.audio_s >= 60
        return replace(point, status="out of memory", note="ran out at 4 GB") if failed else works(point)

    asked = played(runs_out)
    found = module.run_profile(SETTINGS, ["truncated", "full"], [10.0, 60.0, 600.0, 3600.0], tmp_path)
    assert [audio_s for encoder, audio_s in asked if encoder == "full"] == [10.0, 60.0]
    assert [point.status for point in found.of("full")] == ["ok", "out of memory", "skipped", "skipped"]
    assert found.of("full")[3].note == "skipped: out of memory at 1 min"
    asked = played(runs_out)
    module.run_profile(SETTINGS, ["truncated", "full"], [10.0, 60.0, 600.0, 3600.0], tmp_path)
    assert asked == [], "that it ran out is known"


def test_what_something_was_missing_for_is_tried_again(tmp_path: Path, played: Any) -> None:
    played(lambda point: replace(point, status="cannot", note="needs torchaudio"))
    found = module.run_profile(SETTINGS, ["emformer"], [10.0, 60.0], tmp_path)
    assert [point.status for point in found.points] == ["cannot", "skipped"]
    asked = played(works)
    found = module.run_profile(SETTINGS, ["emformer"], [10.0, 60.0], tmp_path)
    assert asked == [("emformer", 10.0), ("emformer", 60.0)] and found.points[1].status == "ok"


def test_what_is_hopeless_is_not_tried(tmp_path: Path, played: Any) -> None:
    asked = played(lambda point: replace(works(point), passed_s=point.audio_s**2 / 1000))
    found = module.run_profile(SETTINGS, ["full"], [10.0, 60.0, 600.0, 2400.0, 9600.0], tmp_path)
    assert asked == [("full", 10.0), ("full", 60.0), ("full", 600.0)], "60 s took 3.6 s, 600 s took 360: 2400"
    assert found.points[3].note == "skipped: would take longer than 100 s: 1548 s if time were linear from 10 min on"


def test_a_slow_start_does_not_make_longer_audio_hopeless(tmp_path: Path, played: Any) -> None:
    asked = played(lambda point: replace(works(point), passed_s=5.0 + point.audio_s / 1000))
    module.run_profile(SETTINGS, ["truncated"], [10.0, 60.0, 3600.0], tmp_path)
    assert asked[-1] == ("truncated", 3600.0), "8.6 s; 60 s took 5.06, and through zero that would be 304 s"


def test_a_higher_limit_tries_again_only_what_that_limit_stopped(tmp_path: Path, played: Any) -> None:
    def stopped(point: Measurement) -> Measurement:
        if point.encoder == "full":
            return replace(point, status="timeout", limit=100.0)
        return replace(point, status="out of memory", limit=4e9) if point.encoder == "emformer" else works(point)

    encoders = ["truncated", "full", "emformer"]
    played(stopped)
    module.run_profile(SETTINGS, encoders, [10.0], tmp_path)
    asked = played(works)
    module.run_profile(replace(SETTINGS, timeout_s=200.0), ["truncated", "emformer"], [10.0], tmp_path)
    assert asked == []
    found = module.run_profile(replace(SETTINGS, timeout_s=200.0), encoders, [10.0], tmp_path)
    assert asked == [("full", 10.0)] and found.settings.timeout_s == 200.0
    found = module.run_profile(replace(SETTINGS, timeout_s=200.0, memory_bytes=8 * 10**9), encoders, [10.0], tmp_path)
    assert asked[1:] == [("emformer", 10.0)] and {point.status for point in found.points} == {"ok"}


def test_an_interruption_keeps_what_was_measured(tmp_path: Path, played: Any) -> None:
    def interrupts(point: Measurement) -> Measurement:
        if point.encoder == "full":
            raise KeyboardInterrupt
        return works(point)

    played(interrupts)
    with pytest.raises(KeyboardInterrupt):
        module.run_profile(SETTINGS, ["truncated", "full"], [10.0], tmp_path)
    assert [point.encoder for point in read_profile(tmp_path / "profile.json").points] == ["truncated"]
    asked = played(works)
    module.run_profile(SETTINGS, ["truncated", "full"], [10.0], tmp_path)
    assert asked == [("full", 10.0)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mode": "training"}, "mode inference there, training here"),
        ({"left": 32, "batch_size": 2}, "left 64 there, 32 here; batch_size 1 there, 2 here"),
        ({"memory_bytes": 3 * 10**9}, "memory_bytes 4000000000 there, 3000000000 here"),
        ({"timeout_s": 10.0}, "timeout_s 100.0 there, 10.0 here"),
        ({"config": EncoderConfig(80, d_model=16)}, "config another there, another here"),
    ],
)
def test_other_settings_in_one_folder_are_refused(
    tmp_path: Path, played: Any, changed: dict[str, Any], message: str
) -> None:
    asked = played(works)
    module.run_profile(SETTINGS, ["full"], [10.0], tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        module.run_profile(replace(SETTINGS, **changed), ["full"], [10.0], tmp_path)
    assert "choose another --out, or --restart" in str(caught.value) and len(asked) == 1
    module.run_profile(replace(SETTINGS, **changed), ["full"], [10.0], tmp_path, restart=True)
    assert len(asked) == 2


def test_another_machine_is_refused_and_another_commit_is_not(
    tmp_path: Path, played: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    played(works)
    module.run_profile(SETTINGS, ["full"], [10.0], tmp_path)
    monkeypatch.setattr(module, "describe_machine", lambda device: MACHINE | {"commit": "def"})
    found = module.run_profile(SETTINGS, ["full"], [10.0, 60.0], tmp_path)
    assert [point.commit for point in found.points] == ["abc", "def"]
    monkeypatch.setattr(module, "describe_machine", lambda device: MACHINE | {"cpu": "a faster one"})
    with pytest.raises(UserError, match="cpu a processor there, a faster one here"):
        module.run_profile(SETTINGS, ["full"], [10.0, 600.0], tmp_path)


def test_the_ceiling_is_of_the_folder_or_most_of_what_is_free(
    tmp_path: Path, played: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    played(works)
    monkeypatch.setattr(module, "available_bytes", lambda: 10 * 10**9)
    undecided = replace(SETTINGS, memory_bytes=None)
    assert module.run_profile(undecided, ["full"], [10.0], tmp_path).settings.memory_bytes == 8_500_000_000
    monkeypatch.setattr(module, "available_bytes", lambda: 2 * 10**9)
    assert module.run_profile(undecided, ["full"], [60.0], tmp_path).settings.memory_bytes == 8_500_000_000
    monkeypatch.setattr(module, "available_bytes", lambda: None)
    with pytest.raises(UserError, match="give a limit"):
        module.run_profile(undecided, ["full"], [60.0], tmp_path / "other")


@pytest.mark.parametrize(
    ("error", "status", "note"),
    [
        (
            CannotRunError(
                "", "out of memory", "RuntimeError: DefaultCPUAllocator: tried to allocate 57600000000 bytes."
            ),
            "out of memory",
            "ran out at 4 GB, wanted another 57.6 GB",
        ),
        (
            CannotRunError("", "out of memory", "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."),
            "out of memory",
            "ran out at 4 GB, wanted another 2.15 GB",
        ),
        (CannotRunError("", "out of memory", "MemoryError: "), "out of memory", "ran out at 4 GB"),
        (CannotRunError("takes longer than 100 s", "timeout"), "timeout", "took longer than 100 s"),
        (CannotRunError("its process ended with -9", "killed"), "killed", "its process ended with -9"),
        (CannotRunError("needs torchaudio,\nwhich"), "cannot", "needs torchaudio, which"),
        (RuntimeError("ValueError: of\nmany lines"), "failed", "ValueError: of many lines"),
    ],
)
def test_how_a_point_fails_is_a_word_and_a_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: str, note: str
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(module, "in_fresh_process", fails)
    found = module.measure(SETTINGS, Measurement("full", 10.0, 1000, "skipped"))
    assert (found.status, found.note, found.seconds) == (status, note, None)


def test_a_count_that_fails_spoils_no_point(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = importlib.import_module("speechattn.profiling.measure")
    memory = {"peak_extra_bytes": 3_000_000, "peak_resident_bytes": 10**8, "weights_bytes": 5, "state_bytes": None}
    answers = {inside.measure_memory: memory | {"output": [2, 1000, 8], "passed_s": 3.0}, inside.measure_time: 4.0}

    def answer(function: Any, *_: Any, **__: Any) -> Any:
        if function not in answers:
            raise CannotRunError("takes longer than 100 s", "timeout")
        return answers[function]

    monkeypatch.setattr(module, "in_fresh_process", answer)
    found = module.measure(replace(SETTINGS, batch_size=2), Measurement("full", 10.0, 1000, "skipped"))
    assert (found.status, found.seconds, found.real_time_factor) == ("ok", 4.0, 0.2), "two rows of 10 s"
    assert (found.bytes_per_frame, found.output, found.peak_tensor_bytes) == (1500.0, (2, 1000, 8), None)
    assert found.note == "tensors not counted: took longer than 100 s"
