"""`speechattn cross-validate`: train and score with each speaker held out in turn; also run by the recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from speechattn.cli.train import parse_train
from speechattn.training.config import TrainConfig


def main(argv: Sequence[str], presets: Mapping[str, TrainConfig] | None = None) -> int:
    """Cross-validate with the options `argv`, those of train; return the exit status."""
    config, restart = parse_train(argv, presets or {}, command="cross-validate")
    from speechattn.system.stop_signal import Interrupted
    from speechattn.system.text_table import text_table
    from speechattn.training.cross_validation import cross_validate

    try:
        found = cross_validate(config, restart=restart)
    except Interrupted as interruption:
        if os.environ.get("RANK", "0") == "0":  # one of several processes, or the only one
            print(f"\n{interruption}; everything is saved. The same command continues.")
        return interruption.exit_code
    header, *rows = found.rows()
    print("\n" + "\n".join(text_table([header, *rows])))
    print(f"\nwritten to {config.out}: cross_validation.md, cross_validation.json, confusion.png")
    return 0
