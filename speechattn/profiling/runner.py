"""Run a profile: measure every encoder over every length in separate processes, and save each result at once.

Running out of memory or time is a result, and longer audio is then not tried. Measurements that a folder already has
with the same settings are not repeated, unless the limit that stopped them was raised.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechattn.errors import UserError
from speechattn.profiling import measure as measurements
from speechattn.profiling.isolated import KILLED, OUT_OF_MEMORY, TIMEOUT, CannotRunError, in_fresh_process
from speechattn.profiling.methodology import method
from speechattn.profiling.results import FINAL, JSON, OK, SKIPPED, Measurement, Profile, read_profile
from speechattn.profiling.settings import PEERS, Settings
from speechattn.system.machine_info import commit, processor, usable_cores, versions
from speechattn.system.process_memory import available_bytes, machine_bytes
from speechattn.system.progress import progress_bar
from speechattn.system.units import format_bytes, format_duration

NO_MEMORY = (OUT_OF_MEMORY, KILLED)
LIMITS = ("memory_bytes", "timeout_s")
PRELOAD = (measurements.__name__, "numba")
"""Modules that every process needs or that take half a second to import."""
SHARE = 0.85
"""Share of the free memory that is the limit when none is given."""
ROOM_BYTES = 50_000_000
"""Memory that a limit must leave beside the interpreter's own."""
MAX_NOTE = 300
"""Characters of an error message that are stored."""
TIMEOUT_FACTOR = 2.0
"""A length is skipped when it would take this many times --timeout with linear growth."""


def run_profile(
    settings: Settings,
    encoders: Sequence[str],
    lengths_s: Sequence[float],
    out: Path,
    restart: bool = False,
) -> Profile:
    """Measure what `out` does not hold yet, and write profile.json and profile.csv there after every measurement.

    Shorter audio first. Without settings.memory_bytes the limit is that of the profile in `out`, or most of the free
    memory.

    Raises:
        UserError: `out` holds a profile of other settings or of another machine, there is no GPU, or the memory
            limit is below what the interpreter needs by itself.
    """
    machine = describe_machine(settings.device)
    earlier = read_profile(out / JSON) if (out / JSON).exists() and not restart else None
    if settings.memory_bytes is None:
        settings = replace(settings, memory_bytes=earlier.settings.memory_bytes if earlier else _default_limit(machine))
    if earlier is not None:
        _check_same(earlier, settings, machine, out)
    profile = Profile(settings, machine, method(settings), earlier.points if earlier else [])
    wanted = [(encoder, seconds) for seconds in sorted(set(lengths_s)) for encoder in dict.fromkeys(encoders)]
    missing = [each for each in wanted if not _is_done(profile, *each)]
    if missing:
        _check_limit(settings, encoders)
    with progress_bar(total=len(wanted), initial=len(wanted) - len(missing), unit="point") as bar:
        for encoder, seconds in missing:
            bar.set_description(f"{encoder}, {format_duration(seconds)}", refresh=sys.stderr.isatty())
            profile.put(next_measurement(profile, encoder, seconds))
            profile.write(out)
            bar.update()
    return profile


def next_measurement(profile: Profile, encoder: str, audio_s: float) -> Measurement:
    """Return the measurement, or the reason to skip it."""
    settings = profile.settings
    shorter = [point for point in profile.of(encoder) if point.audio_s < audio_s and point.status != SKIPPED]
    failed = next((point for point in shorter if point.status != OK), None)
    point = Measurement(encoder, audio_s, settings.frames(audio_s), SKIPPED, commit=profile.machine["commit"])
    if failed is not None:
        return replace(point, note=f"skipped: {failed.status} at {format_duration(failed.audio_s)}")
    least = _least_s(shorter, audio_s)
    if least > TIMEOUT_FACTOR * settings.timeout_s:
        estimate = f"{least:.0f} s if time were linear from {format_duration(shorter[-1].audio_s)} on"
        return replace(point, note=f"skipped: would take longer than {settings.timeout_s:g} s: {estimate}")
    return measure(settings, point)


def _least_s(shorter: Sequence[Measurement], audio_s: float) -> float:
    """Return the time of a pass in seconds by linear growth from the two longest lengths, a lower bound.

    The line does not go through zero: a slow start is a constant.
    """
    if len(shorter) < 2:
        return 0.0
    before, last = shorter[-2:]
    passed_s = last.passed_s or 0.0
    slope = max(0.0, passed_s - (before.passed_s or 0.0)) / (last.audio_s - before.audio_s)
    return passed_s + slope * (audio_s - last.audio_s)


def measure(settings: Settings, point: Measurement) -> Measurement:
    """Return `point` with its measured numbers, or its failure."""
    given = (settings, point.encoder, point.frames)
    in_process = functools.partial(
        in_fresh_process,
        max_bytes=settings.memory_bytes if settings.device == "cpu" else None,
        threads=settings.threads,
        preload=PRELOAD,
    )
    try:
        found = in_process(measurements.measure_memory, *given, seconds=settings.timeout_s)
        point = replace(point, **{**found, "output": tuple(found["output"])})
        point = replace(point, bytes_per_frame=found["peak_extra_bytes"] / (settings.batch_size * point.frames))
        seconds = in_process(measurements.measure_time, *given, seconds=settings.timeout_s * settings.rounds)
        audio_s = settings.batch_size * point.audio_s
        point = replace(point, status=OK, seconds=seconds, real_time_factor=seconds / audio_s)
    except (CannotRunError, RuntimeError) as error:
        status, note = _failure(error, settings)
        limit = settings.timeout_s if status == TIMEOUT else settings.memory_bytes if status in NO_MEMORY else None
        return replace(point, status=status, note=note, limit=limit)
    try:
        return replace(
            point, peak_tensor_bytes=in_process(measurements.measure_tensors, *given, seconds=settings.timeout_s)
        )
    except (CannotRunError, RuntimeError) as error:  # counting takes longer than the pass itself
        return replace(point, note=f"tensors not counted: {_failure(error, settings)[1]}")


def _failure(error: CannotRunError | RuntimeError, settings: Settings) -> tuple[str, str]:
    """Return status and note of a failed measurement."""
    if not isinstance(error, CannotRunError):
        return "failed", _one_line(str(error))
    note = str(error)
    if error.kind == OUT_OF_MEMORY:
        wanted = re.search(r"allocate ([\d.]+) ?(bytes|[KMG]iB)", error.detail)
        limit = format_bytes(settings.memory_bytes) if settings.memory_bytes else "what the machine has"
        note = f"ran out at {limit}" + (f", wanted another {_requested_bytes(*wanted.groups())}" if wanted else "")
    elif error.kind == TIMEOUT:
        note = f"took longer than {settings.timeout_s:g} s"
    return error.kind, _one_line(note)


def _requested_bytes(number: str, unit: str) -> str:
    """Return the size in an allocator's message: bytes on the CPU, GiB on CUDA."""
    return format_bytes(float(number) * {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit])


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_NOTE else text[:MAX_NOTE] + "..."


def _is_done(profile: Profile, encoder: str, audio_s: float) -> bool:
    """Return whether a measurement is known, and the limit that stopped it has not been raised."""
    point = profile.find(encoder, audio_s)
    if point is None or point.status not in FINAL:
        return False
    now = profile.settings.timeout_s if point.status == TIMEOUT else profile.settings.memory_bytes
    return point.limit is None or now is None or now <= point.limit


def describe_machine(device: str) -> dict[str, Any]:
    """Return processor, cores, memory, versions and commit; on CUDA the GPU, too.

    Raises:
        UserError: there is no CUDA.
    """
    about: dict[str, Any] = {"cpu": processor(), "cores": usable_cores(), "memory_bytes": machine_bytes()}
    if device == "cuda":
        try:
            about |= in_fresh_process(measurements.about_gpu, preload=PRELOAD)
        except CannotRunError as error:
            raise UserError(f"--device cuda: {error}. Try --device cpu, or see: speechattn doctor") from error
    return about | {"versions": versions(), "commit": commit()}


def _default_limit(machine: dict[str, Any]) -> int:
    """Return most of the free memory, in bytes."""
    free = machine["gpu_free_bytes"] if "gpu_free_bytes" in machine else available_bytes()
    if free is None:
        raise UserError("This system does not report its free memory: give a limit, for example --memory 8GB.")
    return round(SHARE * free / 1e8) * 10**8


def _check_limit(settings: Settings, encoders: Sequence[str]) -> None:
    """Refuse a limit under which not even the interpreter would run."""
    if settings.device == "cuda" or settings.memory_bytes is None:
        return
    own = next((encoder for encoder in encoders if encoder not in PEERS), encoders[0])
    needed = in_fresh_process(measurements.own_bytes, settings, own, threads=settings.threads, preload=PRELOAD)
    if settings.memory_bytes < needed + ROOM_BYTES:
        raise UserError(
            f"--memory {format_bytes(settings.memory_bytes)} is below what Python and torch need by themselves here, "
            f"{format_bytes(needed)}: give {(needed + 10 * ROOM_BYTES) / 1e9:.1f}GB or more."
        )


def _check_same(earlier: Profile, settings: Settings, machine: dict[str, Any], out: Path) -> None:
    """Refuse to mix different settings or machines in one folder. A raised limit is allowed."""
    then, now = earlier.settings.to_dict(), settings.to_dict()
    other = [name for name in then if then[name] != now[name] and not (name in LIMITS and now[name] > then[name])]
    different = [f"{name} {_short(then[name])} there, {_short(now[name])} here" for name in other]
    for name in ("cpu", "cores", "gpu"):
        there, here = earlier.machine.get(name), machine.get(name)
        different += [f"{name} {there} there, {here} here"] if there != here else []
    there, here = (about.get("versions", {}).get("torch") for about in (earlier.machine, machine))
    different += [f"torch {there} there, {here} here"] if there != here else []
    if different:
        raise UserError(
            f"{out} holds a profile of something else ({'; '.join(different)}): choose another --out, or --restart to "
            "measure all of it again."
        )


def _short(value: object) -> str:
    """Return a setting in few words; a config is too long, and profile.json has its entries."""
    return "another" if isinstance(value, dict) else str(value)
