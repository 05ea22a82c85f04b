"""Train a model that turns speech into phones or characters without any times: an encoder and CTC.

    python recipes/ctc/train.py --preset demo
    python recipes/ctc/train.py --preset phones --data DIR --subset NAME [--alignments DIR]
    python recipes/ctc/train.py --preset characters --data DIR --subset NAME

The same command continues a run that was stopped. `--help` lists all settings; README.md has the results.
"""

import sys
from dataclasses import replace

from speechattn.cli.main import main
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
    # About fourteen characters in a second, and a blank between equal ones.
    "characters": replace(PHONES, labels="characters", out="runs/ctc_characters"),
}

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]], presets=PRESETS))
