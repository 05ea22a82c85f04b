"""The stage of a run on recordings without alignments: phones and words are found from the transcripts first.

The alignments lie in <out>/alignments, in the files of `speechattn align`; the next start of the run uses them again.
Test subsets are aligned with the acoustic model of the training subset.
"""

from __future__ import annotations

from pathlib import Path

from speechattn.data.labelled_corpus import Corpus
from speechattn.system.stop_signal import StopSignal
from speechattn.training.config import TrainConfig

FOLDER = "alignments"
"""Where a run keeps the alignments that it made, inside its own folder."""


def makes_alignments(config: TrainConfig) -> bool:
    """Return whether a run makes its labels from transcripts: real speech, no alignments, and labels that need them."""
    needed = config.task == "frames" and config.labels != "speech"
    return needed and config.data != "synthetic" and config.alignments is None


def make_alignments(config: TrainConfig, stop: StopSignal) -> str:
    """Align the subsets of a run unless that is done, and return the folder of the alignments.

    Raises:
        UserError: there are no transcripts or pronunciations, or too many utterances cannot be aligned.
        Interrupted: SIGINT or SIGTERM came; the next start continues.
    """
    from speechattn.alignment.settings import AlignSettings
    from speechattn.alignment.subsets import align_subsets

    out = Path(config.out) / FOLDER
    if not (out / "align.json").exists():
        print(
            f"No --alignments: {config.labels} are aligned with the transcripts first, into {out}. This trains an "
            "acoustic model for some minutes, and then takes about half a second for a minute of speech."
        )
    settings = AlignSettings(
        data=config.data,
        subset=(config.subset, *config.test_subsets),
        out=str(out),
        max_hours=config.max_hours,
        speakers=config.speakers,
        lexicon=config.lexicon,
        seed=config.seed,
        threads=config.threads,
    )
    align_subsets(settings, stop)
    return str(out)


def explain_missing(corpus: Corpus, folder: str) -> None:
    """Give the utterances that the aligner left out its reasons; those that it was not given are not listed."""
    from speechattn.alignment.left_out import by_kind
    from speechattn.alignment.results import read_left_out

    reasons = read_left_out(Path(folder), corpus.subset)
    corpus.explain(reasons, by_kind(reasons))
