"""The points of a sweep: encoders by name, each a change of the same base settings, and what each of them sees.

All numbers about contexts come from the encoder's config and receptive_field.py. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from speechattn.errors import ConfigError
from speechattn.framing import HOP_MS
from speechattn.receptive_field import lookahead, lookback, max_receptive_field
from speechattn.training.config import TrainConfig

Family = Literal["baseline", "two-sided", "past only", "future only", "little future", "chunks", "depth", "full"]
"""What the points of one line or one mark in the figure have in common."""


@dataclass(frozen=True)
class Point:
    """One encoder of a sweep; `settings` are those of TrainConfig that differ from the base settings of all points.

    Args:
        name: unique in its sweep, also the name of its folder.
        label: what a figure and a table call it.
    """

    name: str
    label: str
    family: Family
    settings: Mapping[str, Any] = field(default_factory=dict)

    def config(self, base: TrainConfig) -> TrainConfig:
        """Return the settings of a run of this point: those of `base`, without baselines, changed by its own."""
        return replace(base, baselines=(), **self.settings)


@dataclass(frozen=True)
class Sight:
    """What one output of an encoder sees, in input frames and in ms; None is without limit.

    `context` counts the frame itself and is the most of any frame; `lookahead` is the future that it waits for.
    """

    context: int | None
    lookback: int | None
    lookahead: int | None
    context_ms: float | None
    lookback_ms: float | None
    lookahead_ms: float | None


def sight(config: TrainConfig) -> Sight:
    """Return what a run's own encoder sees through all its layers, as `describe()` prints it.

    Examples:
        >>> seen = sight(TrainConfig(left=15, right=5, splice=3, num_layers=4))
        >>> seen.lookback, seen.lookahead, seen.context_ms
        (63, 23, 870.0)
        >>> sight(TrainConfig(encoder="full")).context_ms is None
        True
    """
    contexts = config.encoder_config(config.encoder).contexts
    frames = max_receptive_field(contexts), lookback(contexts), lookahead(contexts)
    return Sight(*frames, *(None if count is None else count * HOP_MS for count in frames))


def runs(
    points: Sequence[Point], base: TrainConfig, seeds: Sequence[int], out: str
) -> Iterator[tuple[Point, TrainConfig]]:
    """Yield each point with the settings of its run, seed by seed, so that a whole curve of one seed exists early.

    Every run of every seed has the validation side that `base` chooses; the seed changes weights, batches and dropout.

    Raises:
        ConfigError: two points have one name, a family is unknown, or a setting of a point is impossible.
    """
    names = [point.name for point in points]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"points of a sweep need different names, got {twice[0]!r} twice.")
    for point in points:
        if point.family not in get_args(Family):
            raise ConfigError(f"the family of {point.name!r} must be one of {get_args(Family)}, got {point.family!r}.")
    split_seed = base.seed if base.split_seed is None else base.split_seed
    for seed in seeds:
        for point in points:
            folder = f"{out}/seed-{seed}/{point.name}"
            yield point, replace(point.config(base), seed=seed, split_seed=split_seed, out=folder)
