"""`speechattn align`: times of phones and words from transcripts, for subsets of a corpus or for one recording."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from speechattn.alignment.settings import AlignSettings
from speechattn.cli.config_options import add_fields, given_fields
from speechattn.cli.options import Parser, positive
from speechattn.errors import UserError

DESCRIPTION = """Find when each phone and word was spoken, from recordings and their transcripts: no alignments needed.
Pronunciations come from espeak-ng (pip install espeakng-loader) or --lexicon, the acoustic model is trained on the
recordings themselves. <out>/ gets <subset>.phones.ctm, <subset>.words.ctm, and <subset>.scores.tsv, which lists the
utterances that were left out and why; train and evaluate take the folder as --alignments. The same command continues
after Ctrl-C."""
EPILOG = """One recording: speechattn align hello.wav --text "hello world" (or hello.txt) prints its words, and writes
hello.TextGrid for Praat, hello.phones.ctm and hello.words.ctm into --out DIR (default: this folder). It takes seconds:
the acoustic model is a pretrained one, or --model DIR. --plot [FILE.png] draws it, --lexicon FILE is as above."""


def main(argv: Sequence[str]) -> int:
    """Align with the options `argv`; return the exit status, 130 or 143 after a signal."""
    names = {argument.partition("=")[0] for argument in argv}
    if names & {"--data", "--subset", "--help", "-h"} or not argv:
        return _align_subsets(argv)
    from speechattn.cli.align_recording import main as align_one

    return align_one(argv)


def _align_subsets(argv: Sequence[str]) -> int:
    parser = Parser(
        "speechattn align",
        usage="speechattn align --data DIR [--subset NAME ...] --out DIR [OPTION ...]\n"
        "       speechattn align AUDIO [TRANSCRIPT.txt] [--text TEXT] [--out DIR] [OPTION ...]",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add_fields(parser, AlignSettings)
    parser.add_argument("--plot", type=positive, default=0, metavar="N", help="draw N utterances: <out>/pictures/*.png")
    parser.add_argument("--reference", metavar="DIR", help="alignments to compare with: scores, and a lane in pictures")
    options = parser.parse_args(argv)
    settings = AlignSettings(**given_fields(options, AlignSettings))
    if options.reference is not None and not Path(options.reference).exists():
        raise UserError(f"--reference {options.reference} does not exist: expected a folder with alignments.")
    from speechattn.alignment.subsets import align_subsets
    from speechattn.system.stop_signal import Interrupted, StopSignal

    try:
        with StopSignal() as stop:
            names = align_subsets(settings, stop)
            if options.plot or options.reference:
                from speechattn.cli.align_pictures import compare, draw

                for given, name in zip(settings.subset, names, strict=True):
                    if options.reference:
                        compare(settings.out, name, options.reference)
                    draw(settings, given, name, options.plot, options.reference, stop)
    except Interrupted as interruption:
        print(f"\n{interruption}; what is finished is saved. The same command continues.")
        return interruption.exit_code
    return 0
