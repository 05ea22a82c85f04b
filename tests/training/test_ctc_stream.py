"""A CTC model that was trained, and saved, labels a stream as it labels the whole recording, for any split.

The language has four tones: a sequence of tones is a waveform, its labels have no times. A model of 7,000 weights
learns it in some seconds, so that labels are decided by far more than rounding.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import speechattn as sa
from speechattn.data.labelled_corpus import LabelledUtterance
from speechattn.data.labels.segments import Utterance
from speechattn.data.labels.text_targets import PHONE_TARGETS
from speechattn.models.heads import CTC
from speechattn.models.speech_model import SpeechModel
from speechattn.system.stop_signal import StopSignal
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import Example, TrainingBatches
from speechattn.training.evaluate import evaluate_examples
from speechattn.training.loop import train
from speechattn.training.tasks.ctc import CTCTask

RATE = 16_000
TONES = (400.0, 900.0, 1700.0, 3000.0)
CONFIG = TrainConfig(
    task="ctc",
    data="none",
    encoder="conformer",
    baselines=(),
    stack=2,
    splice=0,
    left=4,
    right=1,
    d_model=16,
    num_heads=2,
    num_layers=1,
    d_ff=48,
    conv_kernel=5,
    conv_lookahead=1,
    num_mels=20,
    dropout=0.0,
    augment=False,
    epochs=20,
    batch_frames=800,
    crop_frames=10,  # smaller than every utterance: they must not be cut
    learning_rate=1e-2,
    warmup_steps=10,
    valid_every=100,
    stretch=0.1,
)


def tones(seed: int) -> tuple[Tensor, list[int]]:
    """Return a waveform [N] of noise with five to nine tones of about 0.1 s, and their labels from 1 to 4."""
    random = np.random.default_rng(seed)
    labels = random.integers(1, 5, random.integers(5, 10)).tolist()
    parts = [random.standard_normal(800) * 0.003]
    for label in labels:
        time = np.arange(int(random.integers(1200, 2200))) / RATE
        parts += [0.2 * np.sin(2 * np.pi * TONES[label - 1] * time), np.zeros(int(random.integers(300, 900)))]
    waveform = np.concatenate(parts)
    return torch.from_numpy(waveform + 0.003 * random.standard_normal(len(waveform))).float(), labels


def example(model: SpeechModel, seed: int) -> Example:
    waveform, labels = tones(seed)
    utterance = LabelledUtterance(Utterance(str(seed), str(seed), Path("none.wav")), len(waveform), [])
    return Example(utterance, model.frontend(waveform[None])[0][0], torch.tensor(labels))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a saved model that names tones."""
    directory = tmp_path_factory.mktemp("tones")
    task = CTCTask.of([], "phones", alignments="none", stack=2)
    torch.manual_seed(0)
    model = SpeechModel(CONFIG.model_config("conformer", task.classes, task.head))
    examples = [example(model, seed) for seed in range(40)]
    frames = torch.cat([each.frames for each in examples])
    model.normalize = sa.Normalize(20)
    model.normalize.mean.copy_(frames.mean(0))
    model.normalize.std.copy_(frames.std(0))
    batches = TrainingBatches(examples, CONFIG, task.per_frame, task.whole_utterances)
    valid = [example(model, seed) for seed in range(100, 105)]
    with StopSignal() as stop:
        train(model, task, batches, valid, CONFIG, directory=directory, name="conformer", log=None, stop=stop)
    evaluation = evaluate_examples(model, task, valid)
    assert evaluation.scores.accuracy > 0.9, evaluation.scores.summary()
    model.save(directory / "model")
    return directory / "model"


@pytest.mark.parametrize("seed", range(200, 204))
def test_a_stream_of_any_split_gives_the_best_path_of_the_whole_recording(folder: Path, seed: int) -> None:
    model = sa.load(folder)
    waveform, _ = tones(seed)
    with torch.no_grad():
        log_probs, lengths = model(waveform[None])
    expected = [PHONE_TARGETS[index] for index in CTC.decode(log_probs, lengths)[0]]
    assert len(expected) >= 4
    best = log_probs[0].topk(2).values
    assert float((best[:, 0] - best[:, 1]).min()) > 1e-4, "a frame is undecided: choose another seed"
    random = np.random.default_rng(seed)
    for largest in (1, 37, 1600, len(waveform)):
        stream, found, start = sa.Stream(model), sa.FrameLabels(), 0
        while start < len(waveform):
            size = int(random.integers(0, largest + 1)) if largest > 1 else 641
            found += stream.push(waveform[start : start + size])
            start += size
        found += stream.flush()
        assert list(found.labels) == expected
        assert list(found.start_s) == sorted(found.start_s) and found.stop_s[-1] <= len(waveform) / RATE + 0.02


def test_labels_of_a_stream_come_before_its_end(folder: Path) -> None:
    stream = sa.Stream(sa.load(folder))
    waveform, _ = tones(201)
    assert len(stream.push(waveform)) >= 3 and stream.algorithmic_latency_ms < 200
