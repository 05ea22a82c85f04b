"""The measurements of a profile, and their two files: profile.json, which is read back, and profile.csv.

Both are rewritten atomically after every measurement.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from speechattn.errors import ConfigError, UserError
from speechattn.profiling.growth import curve, power
from speechattn.profiling.settings import Settings
from speechattn.system.atomic_files import write_bytes, write_json
from speechattn.system.recorded_json import read_recorded
from speechattn.system.serialization import from_dict, to_dict

JSON, CSV = "profile.json", "profile.csv"
KIND, FORMAT = "speechattn profile", 1
OK = "ok"
SKIPPED = "skipped"
FINAL = (OK, "out of memory", "timeout", "killed")
"""States that are not measured again; "cannot" and "failed" can change after an installation or a fix."""
NOISE_BYTES = 2_000_000
"""Resident memory below it is noise of single pages."""
CONSTANT = 1e-3
"""Relative difference of the last two lengths below which tensors, which are counted exactly, do not grow."""


@dataclass(frozen=True)
class Measurement:
    """An encoder over one length of audio; None where nothing was measured.

    Args:
        status: "ok", "out of memory", "timeout", "killed", "cannot", "failed" or "skipped", with the reason in `note`.
        seconds: time of a pass, the minimum of the rounds.
        real_time_factor: seconds of computation per second of audio.
        peak_extra_bytes: growth of the peak resident memory, output included, input not.
        peak_resident_bytes: of the whole process.
        peak_tensor_bytes: peak of torch's new tensors.
        bytes_per_frame: peak_extra_bytes per frame of all rows.
        passed_s: elapsed time of the pass whose memory was measured.
        limit: the limit that stopped it, bytes or seconds.
    """

    encoder: str
    audio_s: float
    frames: int
    status: str
    seconds: float | None = None
    real_time_factor: float | None = None
    peak_extra_bytes: int | None = None
    peak_resident_bytes: int | None = None
    peak_tensor_bytes: int | None = None
    bytes_per_frame: float | None = None
    weights_bytes: int | None = None
    state_bytes: int | None = None
    output: tuple[int, ...] | None = None
    passed_s: float | None = None
    limit: float | None = None
    commit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Growth:
    """Powers p of T ** p through the points that ran, T the length; None where there are not two above the noise."""

    seconds: float | None
    peak_extra_bytes: float | None
    peak_tensor_bytes: float | None


@dataclass
class Profile:
    """Measurements with settings, method and machine (processor, cores, memory, versions, commit)."""

    settings: Settings
    machine: dict[str, Any]
    method: list[str]
    points: list[Measurement] = field(default_factory=list)

    def find(self, encoder: str, audio_s: float) -> Measurement | None:
        """Return the measurement of an encoder over one length, if there is one."""
        return next((point for point in self.points if (point.encoder, point.audio_s) == (encoder, audio_s)), None)

    def put(self, point: Measurement) -> None:
        """Add a measurement or replace the one of the same encoder and length; sorted by encoder, then length."""
        order = list(dict.fromkeys([*(each.encoder for each in self.points), point.encoder]))
        kept = [each for each in self.points if (each.encoder, each.audio_s) != (point.encoder, point.audio_s)]
        self.points = sorted([*kept, point], key=lambda each: (order.index(each.encoder), each.audio_s))

    def of(self, encoder: str) -> list[Measurement]:
        """Return the measurements of an encoder, shortest first."""
        return [point for point in self.points if point.encoder == encoder]

    @property
    def encoders(self) -> list[str]:
        """Names of the encoders, in the order of their first measurement."""
        return list(dict.fromkeys(point.encoder for point in self.points))

    def longest(self, encoder: str) -> Measurement | None:
        """Return the longest successful measurement of an encoder."""
        return max((point for point in self.of(encoder) if point.status == OK), key=_length, default=None)

    def failure(self, encoder: str) -> Measurement | None:
        """Return the shortest failed measurement of an encoder, for any reason."""
        return min(
            (point for point in self.of(encoder) if point.status not in (OK, SKIPPED)), key=_length, default=None
        )

    def growth(self, encoder: str) -> Growth:
        """Return how time and memory of an encoder grow with the length."""
        ran = [point for point in self.of(encoder) if point.status == OK]

        def through(name: str, least: float) -> float | None:
            pairs = [(point.audio_s, getattr(point, name)) for point in ran if (getattr(point, name) or 0) > least]
            return power(*zip(*pairs, strict=True)) if len(pairs) > 1 else None

        return Growth(through("seconds", 0), through("peak_extra_bytes", NOISE_BYTES), through("peak_tensor_bytes", 0))

    def lasts_s(self, encoder: str, size: float = 1e9) -> float | None:
        """Return the seconds of audio whose extra memory is `size` bytes, by a curve through all lengths that ran.

        Infinity where tensors did not grow between the last two, as in a stream. None where it is unknown: fewer
        than two lengths ran, memory grew by no more than the noise, or no `curve` is close to every length.
        """
        ran = [point for point in self.of(encoder) if point.status == OK and point.peak_extra_bytes]
        if len(ran) < 2:
            return None
        tensors = [point.peak_tensor_bytes for point in ran if point.peak_tensor_bytes]
        if len(tensors) > 1 and abs(tensors[-1] - tensors[-2]) < CONSTANT * tensors[-2]:
            return math.inf
        extra = [float(point.peak_extra_bytes or 0) for point in ran]
        if extra[-1] - extra[0] <= NOISE_BYTES:
            return None
        found = curve([point.audio_s for point in ran], extra, NOISE_BYTES)
        return None if found is None else found.length(size)

    def write(self, directory: Path) -> None:
        """Write profile.json and profile.csv into `directory`, each whole or not at all."""
        write_json(directory / JSON, self.to_dict())
        write_bytes(directory / CSV, as_csv(self.points).encode())

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, with derived numbers for readers without this package."""
        longest = {name: point.audio_s if (point := self.longest(name)) else None for name in self.encoders}
        return {
            "kind": KIND,
            "format": FORMAT,
            "machine": self.machine,
            "method": self.method,
            "settings": self.settings.to_dict(),
            "encoders": {name: self.settings.describe(name) for name in self.encoders},
            "longest_s": longest,
            "growth": {name: to_dict(self.growth(name)) for name in self.encoders},
            "points": [to_dict(point) for point in self.points],
        }


def _length(point: Measurement) -> float:
    return point.audio_s


def read_profile(path: Path) -> Profile:
    """Return the profile that `Profile.write` wrote.

    Raises:
        UserError: the file cannot be read, is not JSON, or not a profile of this format.
    """
    hint = f"Give the {JSON} that speechattn profile --out DIR wrote."
    data = read_recorded(path, KIND, FORMAT, "a profile", hint)
    machine, method, points = data.get("machine"), data.get("method"), data.get("points")
    if not isinstance(machine, dict) or not isinstance(method, list) or not isinstance(points, list):
        raise UserError(f"{path} is a damaged profile: machine, method or points are missing. {hint}")
    try:
        settings = Settings.from_dict(data["settings"])
        return Profile(settings, machine, method, [from_dict(Measurement, point) for point in points])
    except (ConfigError, KeyError) as error:
        raise UserError(f"{path} is a damaged profile: {str(error).rstrip('.')}. {hint}") from error


def as_csv(points: Sequence[Measurement]) -> str:
    """Return one line per measurement; an empty cell was not measured."""
    buffer = io.StringIO()
    names = [entry.name for entry in fields(Measurement)]
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    for point in points:
        row = to_dict(point)
        row["output"] = "x".join(map(str, row["output"] or ()))
        writer.writerow(row)
    return buffer.getvalue()
