"""Progress bars: frequent updates on a terminal, few lines in a log file."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


class _Bar(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
    """A tqdm bar without the monitor thread, which would live as long as the process."""

    monitor_interval = 0


def progress_bar(*args: Any, **kwargs: Any) -> Any:
    """Return a tqdm bar, updated twice a second on a terminal and every half minute elsewhere."""
    return _Bar(*args, mininterval=0.5 if sys.stderr.isatty() else 30.0, miniters=1, **kwargs)
