"""Compare an alignment with a reference: frame labels and the starts of phones, as speechattn/alignment/agreement.py.

    python scripts/check_alignment.py --data DATA --subset train-clean-100 --reference DATA/alignments
    python scripts/check_alignment.py --data DATA --subset train-clean-100 --reference DATA/alignments --labels OUT

Without `--labels` it first makes them: `speechattn align` with an empty cache, so that synthesis and pronunciations are
counted, in a temporary folder; the processor seconds are those of all its processes. The reference is not read before.

"matched" counts phones of the reference that have an equal phone in the alignment, "all" counts the others as misses.
Utterances that only one side has are counted, and compared in nothing.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from speechattn.alignment.agreement import compare_alignments
from speechattn.data.audio.files import SAMPLE_RATE, audio_samples
from speechattn.data.labels.alignments import load_alignments
from speechattn.data.librispeech import LibriSpeech


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="LibriSpeech, or the folder that holds it")
    parser.add_argument("--subset", required=True)
    parser.add_argument("--reference", type=Path, required=True, help="alignments to compare with")
    parser.add_argument("--labels", type=Path, help="alignments to judge; made if not given")
    options, align_options = parser.parse_known_args()
    if options.labels is not None and align_options:
        parser.error(f"{' '.join(align_options)} is an option of align, which does not run when --labels is given")
    with tempfile.TemporaryDirectory() as temporary:
        labels = options.labels
        if labels is None:
            labels = Path(temporary) / "labels"
            print(f"CPU seconds: {align(options.data, options.subset, labels, Path(temporary), align_options):.0f}")
        compare(options.data, options.subset, labels, options.reference)


def align(data: Path, subset: str, out: Path, cache: Path, options: list[str]) -> float:
    """Run `speechattn align` in `out` with an empty `cache`; return its processor seconds."""
    command = [sys.executable, "-m", "speechattn", "align", "--data", str(data), "--subset", subset, "--out", str(out)]
    status = subprocess.run(
        [*command, *options], env=os.environ | {"SPEECHATTN_CACHE": str(cache / "cache")}
    ).returncode
    if status:
        sys.exit(status)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compare(data: Path, subset: str, labels: Path, reference: Path) -> None:
    """Print the agreement of the alignments in two folders."""
    ours, theirs = load_alignments(labels, subset), load_alignments(reference, subset)
    paths = {utterance.id: utterance.path for utterance in LibriSpeech(data, subset)}
    pairs = []
    for id in sorted(ours.keys() & theirs.keys() & paths.keys()):
        duration = audio_samples(paths[id]) / SAMPLE_RATE
        pairs.append((ours[id].over(duration), theirs[id].over(duration)))
    found = compare_alignments(pairs)
    print(f"{subset}: {len(pairs)} of {len(theirs)} utterances of the reference, {found.reference_phones} phones")
    print(f"frame agreement          {found.frame_share:.4f}")
    print(f"phones with a match      {found.match_share:.4f}")
    print(f"mean error of starts     {found.mean_error_ms:+.1f} ms")
    for tolerance in (10, 20, 50, 100):
        shares = f"{found.within(tolerance):.4f} matched   {found.within_all(tolerance):.4f} all"
        print(f"starts within {tolerance:3} ms     {shares}")


if __name__ == "__main__":
    main()
