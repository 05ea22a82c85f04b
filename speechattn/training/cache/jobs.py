"""The two kinds of work that workers do: reading headers and sums of sound files, and writing shards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from speechattn.system.serialization import from_dict
from speechattn.training.cache.build import ShardBuilder, ShardSettings
from speechattn.training.cache.file_table import read_file

Handler = Callable[[dict[str, Any]], Any]


def make_handler(kind: str, settings: dict[str, Any], poll: Callable[[], object] = lambda: None) -> Handler:
    """Return the function that does one task of a kind; tasks and results are plain types, as JSON has them."""
    if kind == "files":
        rate = int(settings["sample_rate"])

        def read(task: dict[str, Any]) -> list[dict[str, Any]]:
            rows = []
            for path in task["paths"]:
                poll()
                rows.append(read_file(path, rate))
            return rows

        return read
    return ShardBuilder(from_dict(ShardSettings, settings), poll).build
