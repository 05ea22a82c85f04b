"""Progress bars that are lively on a screen and brief in a log file."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


class _Bar(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
    """tqdm without its thread, which would stay for the life of the process, even of a bar that is not shown."""

    monitor_interval = 0


def progress_bar(*args: Any, **kwargs: Any) -> Any:
    """A tqdm bar, drawn twice a second on a terminal and every half minute elsewhere."""
    return _Bar(*args, mininterval=0.5 if sys.stderr.isatty() else 30.0, miniters=1, **kwargs)
