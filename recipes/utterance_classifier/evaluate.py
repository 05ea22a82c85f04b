"""Compute the accuracy of a saved model on recordings that each have one class.

    python recipes/utterance_classifier/evaluate.py --model runs/digits/model --data DIR --subset . \
        --json-out out.json

The JSON holds accuracy, utterances, per_class, confusion, skipped and more. Recordings of classes that the model does
not have are left out and counted.
"""

import sys

from speechattn.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]], task="utterance"))
