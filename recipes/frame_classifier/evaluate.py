"""Compute the frame accuracy of a saved model on labelled speech in LibriSpeech layout.

    python recipes/frame_classifier/evaluate.py --model runs/librispeech/model --data DIR --subset NAME \
        --alignments DIR --json-out out.json

The JSON holds accuracy, accuracy_no_sil, frames, utterances, per_class, confusion, skipped and more.
"""

import sys

from speechattn.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]], task="frames"))
