"""Two profiles side by side: the ratio of time and memory for every measurement that both have."""

from __future__ import annotations

from pathlib import Path

from speechattn.errors import UserError
from speechattn.plots.html_page import Report
from speechattn.profiling.report import format_machine
from speechattn.profiling.results import OK, Measurement, Profile, read_profile
from speechattn.system.text_table import text_table
from speechattn.system.units import format_duration

COLUMNS = ("encoder", "audio", "seconds A", "B", "B / A", "extra MB A", "B", "B / A", "tensors MB A", "B", "B / A")
QUANTITIES = (("seconds", 1.0, ".3f"), ("peak_extra_bytes", 1e6, ",.1f"), ("peak_tensor_bytes", 1e6, ",.1f"))


def compare(first: Path, second: Path, out: Path | None) -> int:
    """Print profiles A and B side by side, with their differences; write a page into the folder `out` if given.

    Raises:
        UserError: one is not a profile, or `out` cannot be written.
    """
    profiles = read_profile(first), read_profile(second)
    rows = side_by_side(*profiles)
    head = [f"A  {first}", *_indented(profiles[0]), f"B  {second}", *_indented(profiles[1])]
    head += ["", *(differences(*profiles) or ["Same machine, same settings."]), *unshared(*profiles)]
    print("\n".join([*head, "", *text_table([COLUMNS, *rows], "<>")]))
    if out is not None:
        report = Report("Two profiles").code("\n".join(head)).heading("Points").table(COLUMNS, rows)
        try:
            print(f"\n{report.write(out)}")
        except OSError as error:
            raise UserError(f"Cannot write to {out} ({error.strerror}): choose another --out.") from error
    return 0


def side_by_side(first: Profile, second: Profile) -> list[list[str]]:
    """Return a row for every measurement that both have: each quantity of both and their ratio, or the failure."""
    rows = []
    for point in first.points:
        other = second.find(point.encoder, point.audio_s)
        if other is not None:
            row = [point.encoder, format_duration(point.audio_s)]
            for name, unit, form in QUANTITIES:
                row += [*(_cell(each, name, unit, form) for each in (point, other)), _ratio(point, other, name)]
            rows.append(row)
    return rows


def differences(first: Profile, second: Profile) -> list[str]:
    """Return a line for each difference of machine and settings."""
    lines = []
    pairs = [("", _flat(first.machine), _flat(second.machine))]
    pairs.append(("setting ", _flat(first.settings.to_dict()), _flat(second.settings.to_dict())))
    for kind, ours, theirs in pairs:
        for name in dict.fromkeys([*ours, *theirs]):
            if ours.get(name) != theirs.get(name) and name not in ("gpu_free_bytes",):
                lines.append(f"differs: {kind}{name}: A {ours.get(name)}, B {theirs.get(name)}")
    return lines


def unshared(first: Profile, second: Profile) -> list[str]:
    """Return a line for each profile with measurements that the other lacks."""
    lines = []
    for name, mine, other in (("A", first, second), ("B", second, first)):
        alone = [point for point in mine.points if other.find(point.encoder, point.audio_s) is None]
        if alone:
            lines.append(f"only in {name}: {', '.join(f'{p.encoder} {format_duration(p.audio_s)}' for p in alone)}")
    return lines


def _indented(profile: Profile) -> list[str]:
    return [f"   {line}" for line in format_machine(profile.machine).splitlines()]


def _flat(tree: dict[str, object], before: str = "") -> dict[str, object]:
    """Return nested settings under dotted names."""
    flat: dict[str, object] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
    return flat


def _cell(point: Measurement, name: str, unit: float, form: str) -> str:
    value = getattr(point, name)
    if point.status != OK:
        return point.status if name == "seconds" else "-"
    return "-" if value is None else format(value / unit, form)


def _ratio(point: Measurement, other: Measurement, name: str) -> str:
    mine, theirs = getattr(point, name), getattr(other, name)
    if point.status != OK or other.status != OK or not mine or theirs is None:
        return "-"
    return f"{theirs / mine:.2f}"
