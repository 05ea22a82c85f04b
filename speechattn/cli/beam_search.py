"""`speechattn beam-search`: greedy decoding and beam search of a CTC run, side by side; run by recipes/ctc."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from speechattn.cli.config_options import add_fields, given_fields
from speechattn.cli.options import Parser


@dataclass(frozen=True)
class BeamSearchConfig:
    """Options of `speechattn beam-search`."""

    run: str
    """Folder of a run with task ctc, for example runs/ctc_phones, or of a frame classifier of phones, which is read as
    CTC with silence as the blank; its data must still be there."""
    beam: int = 32
    """Hypotheses that are kept at each frame."""
    order: int = 4
    """Longest n-gram of labels, estimated from the targets of the training utterances."""
    ngram_weight: float = 0.5
    """Weight of the n-gram's log probability."""
    label_bonus: float = 0.5
    """Added to the score for each label, in nats; an n-gram alone prefers short sequences."""
    ngram: str | None = None
    """ARPA file of an n-gram of your own; order is then that of the file."""
    ngram_out: str | None = None
    """ARPA file to write the n-gram to."""
    json_out: str | None = None
    """JSON file to write the numbers to."""


def main(argv: Sequence[str]) -> int:
    """Decode with the options `argv` and print a table; return the exit status."""
    parser = Parser("speechattn beam-search", description="Greedy decoding and beam search of a CTC run, side by side.")
    add_fields(parser, BeamSearchConfig)
    options = BeamSearchConfig(**given_fields(parser.parse_args(argv), BeamSearchConfig))
    from speechattn.training.decode_run import decode_run
    from speechattn.training.tasks.ctc_decoders import BeamSettings

    settings = BeamSettings(options.beam, options.order, options.ngram_weight, options.label_bonus)
    decode_run(options.run, settings, options.ngram, options.ngram_out, options.json_out)
    return 0
