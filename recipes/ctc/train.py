"""Train a model that turns speech into phones or characters without any times: an encoder and CTC.

    python recipes/ctc/train.py --preset demo
    python recipes/ctc/train.py --preset phones --data DIR --subset NAME [--alignments DIR]
    python recipes/ctc/train.py --preset streaming --data DIR --subset NAME [--alignments DIR]
    python recipes/ctc/train.py --preset characters --data DIR --subset NAME

The same command continues a run that was stopped. `--help` lists all settings; README.md has the results.
"""

import sys
from dataclasses import replace

from speechattn.cli.main import main
from speechattn.models.pretrained import FOLDER
from speechattn.training.config import TrainConfig

PHONES = TrainConfig(
    task="ctc",
    labels="phones",
    data="LibriSpeech",
    subset="train-clean-100",
    out="runs/ctc_phones",
    encoder="conformer",
    baselines=(),
    stack=4,
    splice=0,
    batch_frames=8000,
    epochs=60,
    valid_every=5,
    stretch=0.1,
    precision="bf16",
)
PRESETS = {
    # A few minutes on two cores: phones of synthetic speech.
    "demo": replace(
        PHONES, data="synthetic", subset="train", out="runs/ctc_demo", d_model=96, num_heads=6, d_ff=384, epochs=8
    ),
    # An hour of real speech: 40 ms a frame, for there are about twelve phones in a second.
    "phones": PHONES,
    # From the frame classifier that is part of the package: the same encoder, which streams with 202 ms of latency.
    "streaming": replace(
        PHONES,
        out="runs/ctc_streaming",
        init=str(FOLDER / "small-en-phones"),
        encoder="truncated",
        stack=1,
        splice=3,
        left=26,
        right=4,
        d_model=128,
        d_ff=512,
        batch_frames=4000,
        learning_rate=2e-3,
        epochs=8,
        valid_every=1,
    ),
    # About fourteen characters in a second, and a blank between equal ones.
    "characters": replace(PHONES, labels="characters", out="runs/ctc_characters"),
}

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]], presets=PRESETS))
