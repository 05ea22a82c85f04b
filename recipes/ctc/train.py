"""Train a model that turns speech into phones or characters without any times: an encoder and CTC.

    python recipes/ctc/train.py --preset demo
    python recipes/ctc/train.py --preset phones --data DIR --subset NAME [--alignments DIR]
    python recipes/ctc/train.py --preset streaming --data DIR --subset NAME [--alignments DIR]
    python recipes/ctc/train.py --preset characters --data DIR --subset NAME

The same command continues a run that was stopped. `--help` lists all settings; README.md has the results.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import speechattn
from speechattn.cli.main import main
from speechattn.model_config import ModelConfig
from speechattn.training.config import TrainConfig

SHIPPED = Path(speechattn.__file__).parent / "models" / "small-en-phones"


def start_from_package(config: TrainConfig) -> TrainConfig:
    """Return `config` with the encoder of the frame classifier that is part of the package, and its weights."""
    encoder = ModelConfig.from_dict(json.loads((SHIPPED / "config.json").read_text())["model"]).encoder
    window, splice = encoder.layer_contexts[0], encoder.splice
    assert encoder.block == "transformer" and window.left is not None and window.right is not None
    return replace(
        config,
        init=str(SHIPPED),
        encoder="truncated",
        stack=encoder.stack,
        left=window.left,
        right=window.right,
        splice=splice.left or 0,
        d_model=encoder.d_model,
        num_heads=encoder.num_heads,
        num_layers=encoder.num_layers,
        d_ff=encoder.feed_forward_dim,
        batch_frames=4000,
        learning_rate=1e-3,
        warmup_steps=50,
        epochs=4,
        valid_every=1,
    )


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
        PHONES, data="synthetic", subset="train", out="runs/ctc_demo", d_model=96, num_heads=6, d_ff=384, epochs=25
    ),
    # An hour of real speech: 40 ms a frame, for there are about twelve phones in a second.
    "phones": PHONES,
    # From the best frame classifier, which recipes/frame_classifier/train.py --preset best makes.
    "offline": replace(
        PHONES,
        out="runs/ctc_offline",
        init="runs/best",
        stack=1,
        splice=3,
        left=50,
        right=50,
        batch_frames=4000,
        learning_rate=3e-4,
        warmup_steps=20,
        epochs=1,
        valid_every=1,
    ),
    # From the frame classifier of the package: the same encoder, with its look-ahead.
    "streaming": start_from_package(replace(PHONES, out="runs/ctc_streaming")),
    # The same with characters, of which there are about fourteen in a second. Better --init runs/ctc_streaming.
    "characters": replace(
        start_from_package(replace(PHONES, labels="characters", out="runs/ctc_characters")),
        learning_rate=2e-3,
        epochs=5,
    ),
}

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]], presets=PRESETS))
