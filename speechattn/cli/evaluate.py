"""`speechattn evaluate`: scores of a saved model of any task on labelled speech; also run by the recipes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from speechattn.cli.config_options import add_fields, given_fields
from speechattn.cli.options import Parser


@dataclass(frozen=True)
class EvaluateConfig:
    """Options of `speechattn evaluate`."""

    model: str
    """Folder of a saved model, for example runs/frame_classifier/model."""
    data: str
    """Folder in LibriSpeech layout, or of sound files with a <name>.txt each."""
    subset: str = "."
    """Subset to score, for example test-other; "." is the folder `data` itself, of sound files."""
    alignments: str | None = None
    """Folder or file with the reference labels, as for train; only models of phones or words of frames need it."""
    layout: str = "auto"
    """Where the paths have class and speaker, as for train, for a model of utterances."""
    lexicon: str | None = None
    """Pronunciation dictionary for a CTC model of phones without alignments; other words are looked up in espeak-ng."""
    unknown_characters: Literal["stop", "drop"] = "stop"
    """Characters of a transcript outside the alphabet, for a CTC model of characters: stop and list them, or drop."""
    json_out: str | None = None
    """JSON file to write the numbers to."""
    max_bad: float = 0.0
    """Share of unusable recordings that is left out and counted; 0 stops at the first."""


def main(argv: Sequence[str], task: str | None = None) -> int:
    """Score a model with the options `argv`; return the exit status. A recipe takes models of its `task` only."""
    parser = Parser("speechattn evaluate", description="Scores of a saved model on labelled speech.")
    add_fields(parser, EvaluateConfig)
    options = EvaluateConfig(**given_fields(parser.parse_args(argv), EvaluateConfig))
    from speechattn.training.evaluate import evaluate_directory

    evaluate_directory(
        options.model,
        options.data,
        options.subset,
        options.alignments,
        options.json_out,
        options.max_bad,
        task=task,
        layout=options.layout,
        lexicon=options.lexicon,
        unknown_characters=options.unknown_characters,
    )
    return 0
