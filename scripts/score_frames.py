"""Frame accuracy of saved models on the validation speakers and the test subsets of a run, raw and smoothed.

    python scripts/score_frames.py RUN [MODEL ...] [--change-cost 0 2 3] [--lag-frames none 5 10] [--json-out FILE]

RUN is the folder of a finished run; its settings name the data. Further models, or runs, are averaged with its model:
an ensemble. With --last-weights the last weights of RUN are scored in place of their average (--ema). Smoothing is
that of speechattn/decoding/viterbi.py; a fixed lag adds to the latency of a stream. The change cost may be chosen by
the validation speakers; nothing may be chosen by a test subset.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechattn.decoding.smoothing import Smoothing
from speechattn.decoding.viterbi import ViterbiStream
from speechattn.models.speech_model import SpeechModel, load
from speechattn.system.atomic_files import write_json
from speechattn.system.stop_signal import StopSignal
from speechattn.training.checkpoint import load_checkpoint
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import Example
from speechattn.training.prepare import prepare


@torch.no_grad()
def log_posteriors(models: Sequence[SpeechModel], frames: Tensor) -> Tensor:
    """Return the logarithm of the mean posteriors [T, C] of frames [T, F]."""
    each = [model.classify(frames[None])[0][0].float().log_softmax(-1) for model in models]
    return torch.stack(each).logsumexp(0) - torch.tensor(float(len(each))).log()


def decode(log_probs: Tensor, change_cost: float, lag_frames: int | None) -> Tensor:
    """Return classes [T] of log probabilities [T, C], as a stream with this lag; None is without one."""
    if change_cost == 0:
        return log_probs.argmax(-1)
    decoder = ViterbiStream(log_probs.shape[1], Smoothing(change_cost, 1, lag_frames))
    first, state = decoder.step(log_probs, decoder.initial_state())
    return torch.cat((first, decoder.flush(state)))


def score(models: Sequence[SpeechModel], examples: Sequence[Example], settings: Sequence[Any]) -> list[dict[str, Any]]:
    """Return accuracy, accuracy without silence and frames of each (change cost, lag) in `settings`."""
    counts = torch.zeros(len(settings), 4, dtype=torch.long)
    for example in examples:
        log_probs, labels = log_posteriors(models, example.frames), example.labels
        known = labels >= 0
        speech = labels > 0
        for index, (cost, lag) in enumerate(settings):
            right = decode(log_probs, cost, lag) == labels
            sums = (right & known).sum(), known.sum(), (right & speech).sum(), speech.sum()
            counts[index] += torch.stack(sums)
    return [
        {"accuracy": right / frames, "accuracy_no_sil": speech_right / speech, "frames": frames}
        for right, frames, speech_right, speech in counts.tolist()
    ]


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("models", type=Path, nargs="*", help="further models or runs: an ensemble")
    parser.add_argument("--change-cost", type=float, nargs="+", default=[0.0, 2.0, 3.0], help="nats")
    parser.add_argument("--lag-frames", nargs="+", default=["none"], help="frames, or none")
    parser.add_argument("--last-weights", action="store_true", help="of RUN's last checkpoint, not their average")
    parser.add_argument("--json-out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = TrainConfig.from_dict(json.loads((options.run / "config.json").read_text()))
    with StopSignal() as stop:
        data = prepare(config, stop)
    folders = [options.run, *options.models]
    models = [load(path / "model" if (path / "model" / "config.json").exists() else path) for path in folders]
    if options.last_weights:
        checkpoint = load_checkpoint(options.run / "checkpoints")
        if checkpoint is None:
            parser.error(f"{options.run} has no checkpoint")
        models[0].load_state_dict(checkpoint.tensors["model"])
    lags = [None if lag == "none" else int(lag) for lag in options.lag_frames]
    settings = [(cost, lag) for cost in options.change_cost for lag in (lags if cost else [None])]
    parts = {"validation speakers": data.valid, **data.tests}
    scores = {name: score([model.eval() for model in models], part, settings) for name, part in parts.items()}
    rows = []
    for index, (cost, lag) in enumerate(settings):
        rows.append({"change_cost": cost, "lag_frames": lag, **{name: each[index] for name, each in scores.items()}})
        line = "   ".join(f"{name} {rows[-1][name]['accuracy']:.4f}" for name in parts)
        print(f"change cost {cost:g}, lag {lag}: {line}")
    if options.json_out is not None:
        write_json(options.json_out, {"models": [path.name for path in folders], "rows": rows})


if __name__ == "__main__":
    main()
