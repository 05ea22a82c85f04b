"""How results differ: in their data, which decides whether scores can be compared, in settings, and in scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from speechattn.training.baseline_settings import parse_baseline_setting
from speechattn.training.comparison.run_result import RunResult
from speechattn.training.result_columns import main_score
from speechattn.training.speaker_scores import MIN_SPEAKERS, Interval, paired_interval

NO_SETTINGS = ("out", "data", "cache", "checkpoint_seconds", "workers")
"""Settings that say where files are, or how the work is shared; data.json says whether data differ."""
COUNTS = ("utterances", "speakers", "frames")


@dataclass(frozen=True)
class Difference:
    """The main score of a result minus that of the first one, in points (hundredths)."""

    points: float
    interval: Interval | None
    """95 % over speakers, in points; None if `why` says why there is none."""
    why: str
    better: bool

    @property
    def clear(self) -> bool:
        """Whether 0 is outside of the interval."""
        return self.interval is not None and not self.interval.low <= 0 <= self.interval.high

    def text(self) -> str:
        """Return points with their interval."""
        if self.interval is None:
            return f"{self.points:+.1f}"
        return f"{self.points:+.1f} ({self.interval.low:+.1f} to {self.interval.high:+.1f})"


def score_difference(first: RunResult, other: RunResult) -> Difference:
    """Return the difference of the main scores of two results, with its interval where both scored the same speakers.

    Speakers are drawn, not frames: frames of a speaker are right or wrong together.
    """
    main = main_score(first.task)
    one, two = float(first.row[main.key]), float(other.row[main.key])
    found, why = None, ""
    here, there = (result.row.get("by_speaker") or {} for result in (first, other))
    if not here or not there:
        why = "no scores by speaker: the run is older than they are"
    elif not _same_validation(first, other):
        why = "validation data differ"
    elif len(here) < MIN_SPEAKERS:
        why = f"fewer than {MIN_SPEAKERS} validation speakers"
    else:
        paired = paired_interval(here, there)
        if paired is None:
            why = "validation speakers differ"
        else:
            low, high = (paired.low, paired.high) if main.higher_is_better else (-paired.high, -paired.low)
            found = Interval(100 * low, 100 * high)
    return Difference(100 * (two - one), found, why, main.better(two, one))


def _same_validation(first: RunResult, other: RunResult) -> bool:
    """Return whether two runs validated on the same utterances with the same labels, as far as is known."""
    parts = [result.data.get("valid") for result in (first, other)]
    if None in parts:
        return False
    return all(parts[0].get(key) == parts[1].get(key) for key in ("ids", "labels"))  # type: ignore[union-attr]


def data_differences(results: Sequence[RunResult]) -> list[str]:
    """Return a sentence for each part of the data in which a result differs from the first; the worst first."""
    first, found = results[0], []
    for other in results[1:]:
        if not first.data or not other.data:
            missing = first if not first.data else other
            found.append(f"{missing.name} has no data.json: whether its data are those of the others is not known.")
            continue
        for part in dict.fromkeys(("valid", *first.data, *other.data)):
            sentence = _part_difference(part, first, other)
            if sentence:
                found.append(sentence)
    return list(dict.fromkeys(sorted(found, key=lambda text: not text.startswith("VALIDATION"))))


def _part_difference(part: str, first: RunResult, other: RunResult) -> str:
    """Return how one part of the data differs, "" if it does not."""
    one, two = first.data.get(part), other.data.get(part)
    names = f"{first.name} and {other.name}"
    if one is None or two is None:
        has, lacks = (first, other) if two is None else (other, first)
        return f"Only {has.name} has the {part}, not {lacks.name}."
    counts = [f"{one.get(key)} and {two.get(key)} {key}" for key in COUNTS if one.get(key) != two.get(key)]
    kinds = [key for key in ("ids", "labels", "sound") if one.get(key) != two.get(key)]
    if not counts and not kinds:
        return ""
    what = ", ".join(counts) or " and ".join({"ids": "utterances", "sound": "sound files"}.get(k, k) for k in kinds)
    if part == "valid":
        return f"VALIDATION DATA of {names} differ ({what}): their scores are not comparable."
    name = {"train": "Training data"}.get(part, part.capitalize())
    return f"{name} of {names} differ ({what})."


def setting_differences(results: Sequence[RunResult]) -> dict[str, list[Any]]:
    """Return setting -> its value in each result, for settings that differ; one that a run lacks has its default."""
    rows = [_shown_settings(result) for result in results]
    keys = dict.fromkeys(key for row in rows for key in row)
    found = {key: [row.get(key) for row in rows] for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values[1:])}


def _shown_settings(result: RunResult) -> dict[str, Any]:
    """Return the settings of one encoder: those of its run, and its own ones of `baseline_settings`."""
    kind = str(result.row.get("encoder"))
    settings = {key: value for key, value in result.settings.items() if key not in NO_SETTINGS}
    baseline = kind != settings["encoder"]
    own = settings.pop("baseline_settings", None) or ()
    settings.pop("baselines", None)
    if baseline:
        settings["encoder"] = kind
        for text in own:
            encoder, key, value = parse_baseline_setting(str(text))
            if encoder == kind:
                settings[key] = value
    return settings


def unfinished(results: Sequence[RunResult]) -> list[str]:
    """Return a sentence for each result of fewer epochs than its run is to have."""
    found = []
    for result in results:
        done, wanted = result.row.get("epochs"), _shown_settings(result)["epochs"]
        if isinstance(done, int) and isinstance(wanted, int) and done < wanted:
            found.append(f"{result.name} was scored after {done} of its {wanted} epochs.")
    return found


def machine_differences(results: Sequence[RunResult]) -> str:
    """Return a sentence if times cannot be compared, because machines or threads differ or are not known; or ""."""
    made = [result.row.get("made") or {} for result in results]
    if not all(made):
        unknown = ", ".join(result.name for result, row in zip(results, made, strict=True) if not row)
        return f"The machine of {unknown} is not known: compare seconds and frames/s with care."
    kinds = {(row.get("cpu"), row.get("gpu"), row.get("threads")) for row in made}
    return "Machines or threads differ: seconds and frames/s are not comparable." if len(kinds) > 1 else ""
