"""Train a classifier of whole recordings: which digit is spoken, which command, or who speaks.

    python recipes/utterance_classifier/train.py --preset demo
    python recipes/utterance_classifier/train.py --preset digits --data DIR
    python recipes/utterance_classifier/train.py --preset speakers --data DIR/LibriSpeech --subset NAME

Frames go through an encoder and are joined to one by the mean, or by attention pooling. The same command continues a
run that was stopped. `--help` lists all settings; README.md has the results. cross_validate.py holds out each speaker
in turn.
"""

import sys
from dataclasses import replace

from speechattn.cli.main import main
from speechattn.training.config import TrainConfig

SMALL = TrainConfig(
    task="utterance",
    labels="classes",
    subset=".",
    sample_rate=8000,
    pooling="attention",
    baselines=(),
    d_model=64,
    num_heads=4,
    num_layers=2,
    d_ff=256,
    gru_width=64,
    mlp_width=128,
    cnn_kernel=5,
    batch_frames=500,
    stretch=0.15,
)
PRESETS = {
    # Ten digits spoken by 40 voices of espeak-ng, and by 26 others to test: minutes.
    "demo": replace(SMALL, subset="train", out="runs/words", baselines=("mlp",), epochs=12),
    # A folder of recordings at 8 kHz whose paths have class and speaker, such as the Free Spoken Digit Dataset.
    "digits": replace(SMALL, data="free-spoken-digit-dataset", out="runs/digits", augment_strength=0.3, epochs=40),
    # Other utterances of the same speakers.
    "speakers": replace(
        SMALL,
        labels="speakers",
        data="LibriSpeech",
        subset="test-other",
        out="runs/speakers",
        sample_rate=16_000,
        split="utterances",
        valid_fraction=0.2,
        batch_frames=2000,
        crop_frames=200,
        stretch=0.0,
        epochs=40,
    ),
}

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]], presets=PRESETS))
