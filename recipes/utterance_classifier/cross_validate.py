"""Train and score with each speaker held out in turn: every recording is labelled by a model that has not heard it.

    python recipes/utterance_classifier/cross_validate.py --preset digits --data DIR

The options are those of train.py. A fold is a run of its own in the folder --out; the same command continues. With
--preset speakers the folds are five random splits of the utterances.
"""

import sys

from train import PRESETS

from speechattn.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["cross-validate", *sys.argv[1:]], presets=PRESETS))
