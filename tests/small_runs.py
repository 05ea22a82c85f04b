"""Runs of the training loop that take a second: frames whose loudest bin is their label, and a tiny encoder."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechattn.data.labelled_corpus import LabelledUtterance
from speechattn.data.labels.segments import Segment, Utterance
from speechattn.data.synthetic.arpabet import CLASSES
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel
from speechattn.system.stop_signal import StopSignal
from speechattn.training.config import EncoderKind, TrainConfig
from speechattn.training.dataset import Example, Piece, TrainingBatches
from speechattn.training.distributed import Ranks
from speechattn.training.loop import train
from speechattn.training.run_log import RunLog
from speechattn.training.tasks.frames import FrameTask
from speechattn.training.trainer import Progress

TASK = FrameTask(CLASSES)
TINY: dict[str, Any] = {
    "num_mels": 8,
    "d_model": 16,
    "num_heads": 2,
    "num_layers": 2,
    "d_ff": 32,
    "left": 3,
    "right": 2,
    "splice": 0,
    "gru_width": 16,
    "mlp_width": 16,
}


def example(i: int, num_frames: int, dtype: torch.dtype = torch.float32) -> Example:
    """Frames whose loudest bin is their label: something a model can learn in a few steps."""
    generator = torch.Generator().manual_seed(i)
    labels = torch.randint(0, 8, (num_frames // 5 + 1,), generator=generator).repeat_interleave(5)[:num_frames]
    frames = torch.nn.functional.one_hot(labels, 8) * 4.0 + torch.randn(num_frames, 8, generator=generator)
    utterance = Utterance(f"{i}-1-0", str(i), Path("none.flac"))
    return Example(LabelledUtterance(utterance, num_frames * 160, [Segment(0, 1, "SIL")]), frames.to(dtype), labels)


def config_of(**settings: Any) -> TrainConfig:
    return TrainConfig(
        **{**TINY, "epochs": 3, "batch_frames": 600, "crop_frames": 80, "warmup_steps": 5, "augment": False, **settings}
    )


def new_model(config: TrainConfig, kind: EncoderKind = "truncated") -> SpeechModel:
    torch.manual_seed(1)
    return SpeechModel(ModelConfig(CLASSES, config.encoder_config(kind), num_mels=8))


class StoppedBatches(TrainingBatches):
    """Batches during the `steps`-th of which SIGTERM arrives; 0 is never."""

    def __init__(self, examples: Sequence[Example], config: TrainConfig, stop: StopSignal, steps: int) -> None:
        super().__init__(examples, config)
        self.stop, self.left = stop, steps

    def load(self, batch: Sequence[Piece]) -> tuple[Tensor, Tensor, Tensor]:
        self.left -= 1
        if self.left == 0:
            self.stop.received = signal.SIGTERM
        return super().load(batch)


def run(
    examples: Sequence[Example],
    config: TrainConfig,
    directory: Path,
    stop_after: int = 0,
    stages: Sequence[int] = (),
    ranks: Ranks | None = None,
    model: SpeechModel | None = None,
) -> tuple[SpeechModel, Progress]:
    """Train as a command does: begin, or continue what is in `directory`."""
    model = model or new_model(config)
    valid = [example(90, 200, examples[0].frames.dtype)]
    log = RunLog(directory) if ranks is None or ranks.is_main else None
    with StopSignal() as stop:
        batches = StoppedBatches(examples, config, stop, stop_after)
        progress = train(
            model,
            TASK,
            batches,
            valid,
            config,
            directory=directory,
            name="truncated",
            log=log,
            stop=stop,
            ranks=ranks,
            stages=stages,
        )
    return model, progress
