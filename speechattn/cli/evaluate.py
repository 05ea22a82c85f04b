"""`speechattn evaluate`: frame accuracy of a saved model on labelled speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from speechattn.cli.config_options import add_fields, given_fields
from speechattn.cli.options import Parser


@dataclass(frozen=True)
class EvaluateConfig:
    """Options of `speechattn evaluate`."""

    model: str
    """Folder of a saved model, for example runs/frame_classifier/model."""
    data: str
    """Folder in LibriSpeech layout, or of sound files with a <name>.txt each."""
    subset: str
    """Subset to score, for example test-other; "." is the folder `data` itself, of sound files."""
    alignments: str | None = None
    """Folder or file with the reference labels, as for train; a model of speech and silence needs none."""
    json_out: str | None = None
    """JSON file to write the numbers to."""
    max_bad: float = 0.0
    """Share of unusable recordings that is left out and counted; 0 stops at the first."""


def main(argv: Sequence[str]) -> int:
    """Score a model with the options `argv`; return the exit status."""
    parser = Parser("speechattn evaluate", description="Frame accuracy of a saved model on labelled speech.")
    add_fields(parser, EvaluateConfig)
    options = EvaluateConfig(**given_fields(parser.parse_args(argv), EvaluateConfig))
    from speechattn.training.evaluate import evaluate_directory

    evaluate_directory(
        options.model, options.data, options.subset, options.alignments, options.json_out, max_bad=options.max_bad
    )
    return 0
