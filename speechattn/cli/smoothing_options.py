"""The options that set the smoothing of labels, in ms, for `speechattn stream` and `speechattn label`."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

from speechattn.cli.options import Parser
from speechattn.decoding.smoothing import Smoothing
from speechattn.framing import Framing

DEFAULT_COST = Smoothing().change_cost
DEFAULT_LAG_MS = 100.0


@dataclass(frozen=True)
class SmoothingMs:
    """A `Smoothing` whose durations are in ms, for a model that is not yet loaded."""

    change_cost: float = DEFAULT_COST
    """Nats."""
    min_ms: float = 0.0
    lag_ms: float | None = None
    """None: labels are those of the best whole sequence."""

    def frames(self, framing: Framing) -> Smoothing:
        """Return it in frames: segments last at least `min_ms`, the lag is at most `lag_ms`."""
        per_ms = framing.frames_per_second / 1000
        least = max(1, math.ceil(self.min_ms * per_ms - 1e-9))
        lag = None if self.lag_ms is None else math.floor(self.lag_ms * per_ms + 1e-9)
        return Smoothing(self.change_cost, least, lag)


def add_smoothing(parser: Parser) -> None:
    """Add --change-cost and --min-ms, None if they are not given."""
    add = parser.add_argument
    add(
        "--change-cost",
        type=number,
        metavar="NATS",
        help=f"smoothing: cost of each change of the label (default {DEFAULT_COST:g})",
    )
    add("--min-ms", type=number, metavar="MS", help="smoothing: least duration of a segment (default one frame)")


def number(text: str) -> float:
    """Read a finite number, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number, 0 or more, got {text!r}")
    return value
