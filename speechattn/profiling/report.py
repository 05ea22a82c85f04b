"""The reports of a profile: a table for the terminal, a figure, and the HTML page with both."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from speechattn.plots.html_page import Report
from speechattn.plots.memory_growth import Failure, Limits, Line, memory_growth
from speechattn.profiling.isolated import KILLED, OUT_OF_MEMORY, TIMEOUT
from speechattn.profiling.results import OK, SKIPPED, Measurement, Profile
from speechattn.system.text_table import text_table
from speechattn.system.units import format_bytes, format_duration, format_power

COLUMNS = ("encoder", "audio", "seconds", "RTF", "extra MB", "tensors MB", "resident MB", "bytes/frame", "")
GROWTH = ("encoder", "survived", "then", "a GB lasts for", "time", "extra memory", "tensors")
CAPTION = (
    "A cross is where an encoder wanted more memory or time than it was given. From decade to decade a linear one "
    "rises by a decade, a quadratic one by two, a constant one not at all."
)
FIGURE = "lengths"
WHY = {OUT_OF_MEMORY: "memory", KILLED: "memory", TIMEOUT: "time"}


def profile_table(profile: Profile) -> str:
    """Return all measurements, and the growth of each encoder, as text."""
    points = text_table([COLUMNS, *map(_cells, profile.points)], "<>>>>>>><")
    return "\n".join([*points, "", *text_table([GROWTH, *_grown(profile)], "<<<<>")])


def plot_growth(profile: Profile) -> Figure:
    """Plot memory and time over the length of audio."""
    settings = profile.settings
    config = settings.config
    gpu = settings.device == "cuda"
    lines = [_line(profile, encoder) for encoder in profile.encoders]
    limits = Limits(
        settings.memory_bytes,
        profile.machine.get("gpu_memory_bytes" if gpu else "memory_bytes"),
        settings.timeout_s if "time" in {line.failure.kind for line in lines if line.failure} else None,
    )
    title = f"{settings.mode.capitalize()}: memory and time over the length of audio"
    where = profile.machine.get("gpu") if gpu else f"{profile.machine.get('cpu')}, {_threads(settings.threads)}"
    note = f"{where}, float32; {config.num_layers} layers of {config.d_model}     cross: ran out of memory or time"
    return memory_growth(lines, limits, title, note)


def write_page(profile: Profile, directory: Path) -> Path:
    """Write report.html, which is self-contained, and its figure into `directory`; return the path of the page."""
    settings = profile.settings
    report = Report(f"How much audio fits: {settings.mode} on {'a GPU' if settings.device == 'cuda' else 'the CPU'}")
    report.numbers([_headline(profile, encoder) for encoder in profile.encoders])
    if any(point.status == OK for point in profile.points):
        report.figure(FIGURE, plot_growth(profile), CAPTION)
    report.heading("Growth").table(GROWTH, _grown(profile))
    report.heading("Points").table([*COLUMNS[:-1], "note"], [_row(point) for point in profile.points])
    report.heading("Method")
    for sentence in profile.method:
        report.text(sentence)
    report.heading("Encoders").table(["encoder", "what it is"], [[e, settings.describe(e)] for e in profile.encoders])
    report.heading("Machine and settings").code(format_machine(profile.machine)).code(format_settings(profile))
    return report.write(directory)


def format_machine(machine: dict[str, Any]) -> str:
    """Return processor, cores, memory, versions and commit in two lines."""
    memory = f", {format_bytes(machine['memory_bytes'])}" if machine.get("memory_bytes") else ""
    gpu = f"; {machine['gpu']}, {format_bytes(machine['gpu_memory_bytes'])}" if "gpu" in machine else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine.get("versions", {}).items())
    return (
        f"{machine.get('cpu')}, {machine.get('cores')} cores{memory}{gpu}\n{versions}; commit {machine.get('commit')}"
    )


def format_settings(profile: Profile) -> str:
    """Return every setting of a profile on its own line."""
    settings = profile.settings.to_dict()
    config = settings.pop("config")
    lines = [f"{name:<22}{value}" for name, value in settings.items() if value is not None]
    return "\n".join([*lines, "", *(f"{name:<22}{value}" for name, value in config.items())])


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"


def _line(profile: Profile, encoder: str) -> Line:
    ran = [point for point in profile.of(encoder) if point.status == OK]
    return Line(
        encoder,
        [point.audio_s for point in ran],
        [point.peak_extra_bytes or 0 for point in ran],
        [point.seconds or 0.0 for point in ran],
        _failure(profile, encoder),
    )


def _failure(profile: Profile, encoder: str) -> Failure | None:
    """Return the first length that failed, or that was skipped without a failure: it would have taken too long."""
    if failed := profile.failure(encoder):
        return Failure(failed.audio_s, WHY.get(failed.status, failed.status), failed.limit)
    skipped = [point.audio_s for point in profile.of(encoder) if point.status == SKIPPED]
    return Failure(min(skipped), "time", profile.settings.timeout_s) if skipped else None


def _headline(profile: Profile, encoder: str) -> tuple[str, str, str]:
    """Return the longest audio that an encoder completed, what it took, and what stopped the next length."""
    longest, failure = profile.longest(encoder), profile.failure(encoder)
    then = f"{format_duration(failure.audio_s)}: {failure.note}" if failure else "the longest that was tried"
    if longest is None:
        return "none", encoder, then
    cost = f"{format_bytes(longest.peak_extra_bytes or 0)}, {longest.seconds:.3g} s"
    return format_duration(longest.audio_s), encoder, f"{cost}; {then}"


def _grown(profile: Profile) -> list[list[str]]:
    """Return a row of GROWTH for each encoder."""
    rows = []
    for encoder in profile.encoders:
        longest, failure, growth = profile.longest(encoder), profile.failure(encoder), profile.growth(encoder)
        survived = "none" if longest is None else format_duration(longest.audio_s)
        then = "" if failure is None else f"{failure.status} at {format_duration(failure.audio_s)}"
        powers = (growth.seconds, growth.peak_extra_bytes, growth.peak_tensor_bytes)
        lasts = profile.lasts_s(encoder)
        lasting = "unknown" if lasts is None else "any length" if math.isinf(lasts) else format_duration(lasts)
        rows.append([encoder, survived, then, lasting, *map(format_power, powers)])
    return rows


def _row(point: Measurement) -> list[object]:
    """Return a measurement in the order of COLUMNS; None where nothing was measured."""
    megabytes = [
        None if size is None else size / 1e6
        for size in (point.peak_extra_bytes, point.peak_tensor_bytes, point.peak_resident_bytes)
    ]
    factor = None if point.real_time_factor is None else f"{point.real_time_factor:.5f}"
    audio = format_duration(point.audio_s)
    return [point.encoder, audio, point.seconds, factor, *megabytes, point.bytes_per_frame, point.note]


def _cells(point: Measurement) -> list[str]:
    """Return `_row` as text, with a dash where nothing was measured."""
    forms = ("", "", ",.2f", "", ",.1f", ",.1f", ",.1f", ",.0f", "")
    return ["-" if value is None else format(value, form) for value, form in zip(_row(point), forms, strict=True)]
