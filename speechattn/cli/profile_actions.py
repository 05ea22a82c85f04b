"""The actions of `speechattn profile`: measure and report, or report an earlier profile again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from speechattn.errors import UserError
from speechattn.plots.style import DPI
from speechattn.profiling.report import plot_growth, profile_table, write_page
from speechattn.profiling.results import JSON, read_profile
from speechattn.profiling.runner import run_profile
from speechattn.profiling.settings import Settings
from speechattn.system.run_lock import RunLock


def profile(
    settings: Settings, encoders: Sequence[str], lengths_s: Sequence[float], out: Path, restart: bool = False
) -> int:
    """Measure and report, as `run_profile`; after Ctrl-C the report holds what was measured until then.

    Raises:
        UserError: as `run_profile`; or `out` cannot be written, or another profile is being written there.
    """
    with RunLock(out, option="--out"):
        try:
            run_profile(settings, encoders, lengths_s, out, restart)
        except KeyboardInterrupt:
            if (out / JSON).exists():
                _report(out)
                print("Interrupted; the same command measures the rest.")
            raise
        _report(out)
    return 0


def _report(out: Path) -> None:
    found = read_profile(out / JSON)
    page = write_page(found, out)
    print(profile_table(found))
    print(f"\n{page}")


def redraw(source: Path, out: Path | None) -> int:
    """Write the report of a profile.json again into the folder `out`, or only its figure into a .png file.

    Raises:
        UserError: the file is not a profile, or `out` cannot be written.
    """
    found = read_profile(source)
    try:
        if out is not None and out.suffix.lower() == ".png":
            out.parent.mkdir(parents=True, exist_ok=True)
            # Without the software's version: the same profile gives the same bytes after an upgrade.
            plot_growth(found).savefig(out, format="png", dpi=DPI, metadata={"Software": None})
            print(out)
        else:
            print(write_page(found, source.parent if out is None else out))
    except OSError as error:
        raise UserError(f"Cannot write to {out or source.parent} ({error.strerror}): choose another --out.") from error
    return 0
