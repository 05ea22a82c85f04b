"""Train a classifier of every 10 ms of speech: truncated self-attention and the encoders it is compared with.

    python recipes/frame_classifier/train.py --preset demo
    python recipes/frame_classifier/train.py --preset librispeech --data DIR --subset NAME [--alignments DIR]
    torchrun --standalone --nproc-per-node 2 recipes/frame_classifier/train.py ...    one process a GPU

Same data, labels and speakers for every row of the table at the end, and the same augmentation and number of epochs
where --baseline-settings say nothing else. The same
command continues a run that was stopped. `--help` lists all settings; README.md has the results.
"""

import sys
from dataclasses import replace

from speechattn.cli.main import main
from speechattn.training.config import TrainConfig

HOUR = TrainConfig(data="LibriSpeech", subset="train-clean-100", stretch=0.1)
"""What the presets for an hour of real speech have in common."""
LONG = replace(HOUR, baselines=(), ema=0.998, valid_every=5, precision="bf16")

PRESETS = {
    # A few minutes on two cores: half an hour of synthetic speech, a small encoder.
    "demo": TrainConfig(
        out="runs/demo",
        d_model=96,
        num_heads=6,
        num_layers=3,
        d_ff=384,
        epochs=10,
        mlp_width=256,
    ),
    # Half an hour on two cores.
    "librispeech": replace(
        HOUR,
        out="runs/librispeech",
        epochs=45,
        # The best of eight on the validation speakers.
        baseline_settings=(
            "mlp.augment=false",
            "mlp.stretch=0",
            "mlp.dropout=0.4",
            "mlp.epochs=14",
            "mlp.mlp_width=512",
            "mlp.mlp_splice=15",
        ),
    ),
    # The most accurate model that an hour of real speech gave; it does not stream in less than 2 s.
    "best": replace(LONG, out="runs/best", encoder="conformer", left=50, right=50, dropout=0.0, epochs=30),
    # The model of the package: at most a million weights and 200 ms of future; with --teachers runs/best.
    "streaming": replace(
        LONG,
        out="runs/streaming",
        left=30,
        right=3,
        splice=5,
        d_model=128,
        d_ff=640,
        dropout=0.1,
        epochs=48,
        time_masks=4,
        teacher_weight=0.7,
    ),
    # Every kind of encoder under one budget.
    "encoders": replace(
        HOUR,
        out="runs/encoders",
        encoder="conformer",
        baselines=("truncated", "full", "cnn", "bigru", "mlp", "linear"),
        epochs=12,
    ),
}

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]], presets=PRESETS))
