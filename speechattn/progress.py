"""Progress bars that are lively on a screen and brief in a log file."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(*args: Any, **kwargs: Any) -> Any:
    """tqdm, drawn twice a second on a terminal and every half minute elsewhere."""
    return tqdm(*args, mininterval=0.5 if sys.stderr.isatty() else 30.0, **kwargs)
