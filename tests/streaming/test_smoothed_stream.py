"""A stream with smoothing: the labels of Viterbi on the logits of the whole audio, later by the lag, for any split."""

import copy
import math
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
import torch
from small_streams import CLASSES, labels_of, logits_of, model_of, sound

from speechattn.data.audio.files import load_audio
from speechattn.decoding.smoothing import Smoothing
from speechattn.decoding.viterbi import ViterbiStream, viterbi
from speechattn.errors import UserError
from speechattn.models.pretrained import load_pretrained
from speechattn.streaming.stream import Stream

SMOOTHINGS = [
    Smoothing(3.0, 2, None),
    Smoothing(3.0, 1, 0),
    Smoothing(8.0, 3, 5),
    Smoothing(2.0, (1, 2, 3, 1, 2), 12),
    Smoothing(4.0, 1, 500),
]


def expected(model: Any, waveform: Any, smoothing: Smoothing) -> list[str]:
    """Labels of the logits of the whole audio, by the decoder alone."""
    decoder = ViterbiStream(len(CLASSES), smoothing)
    labels, state = decoder.step(logits_of(model, waveform), decoder.initial_state())
    return [CLASSES[c] for c in [*labels.tolist(), *decoder.flush(state).tolist()]]


@pytest.mark.parametrize("smoothing", SMOOTHINGS, ids=str)
def test_labels_are_those_of_the_whole_for_any_split(smoothing: Smoothing) -> None:
    model, waveform = model_of().double(), sound(1.3).double()  # rounding would change whole paths
    wanted, plain = expected(model, waveform, smoothing), labels_of(Stream(model), [waveform])
    assert wanted != list(plain.labels)
    probabilities = logits_of(model, waveform).softmax(-1)
    for size in (1111, 20_800):
        labels = labels_of(Stream(model, smoothing=smoothing), waveform.split(size))
        assert list(labels.labels) == wanted
        assert (labels.start_s, labels.stop_s) == (plain.start_s, plain.stop_s)
        of_labels = probabilities[range(len(wanted)), [CLASSES.index(label) for label in wanted]]
        assert labels.probabilities == pytest.approx(of_labels.tolist(), abs=1e-10)


def test_without_a_lag_labels_are_those_of_viterbi() -> None:
    model, waveform = model_of().double(), sound(2).double()
    labels = labels_of(Stream(model, smoothing=Smoothing(4.0, 3, None)), waveform.split(700))
    assert [CLASSES.index(label) for label in labels.labels] == viterbi(logits_of(model, waveform), 4.0, 3).tolist()
    assert min(segment.duration for segment in labels.segments[1:-1]) > 0.029


@pytest.mark.parametrize("lag", [0, 3, 11])
def test_latency_includes_the_lag_and_each_label_comes_so_much_later(lag: int) -> None:
    model, waveform = model_of(), sound(1)
    plain, late = Stream(model), Stream(model, smoothing=Smoothing(1.0, 1, lag))
    assert late.algorithmic_latency_ms == plain.algorithmic_latency_ms + 10 * lag
    counts = [(len(plain.push(piece)), len(late.push(piece))) for piece in waveform.split(160)]
    seen, smoothed = np.cumsum(counts, axis=0).T
    assert smoothed.tolist() == np.maximum(seen - lag, 0).tolist() and smoothed[-1] > 0
    assert len(late.flush()) == len(plain.flush()) + lag


def test_without_a_lag_the_latency_has_no_bound() -> None:
    assert Stream(model_of(), smoothing=Smoothing(lag_frames=None)).algorithmic_latency_ms == math.inf


def test_a_ctc_head_and_another_number_of_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="for one label a frame, and this model has a CTC head: leave it out"):
        Stream(model_of("ctc"), smoothing=Smoothing())
    with pytest.raises(ValueError, match="one for each of the 5 classes, got 2"):
        Stream(model_of(), smoothing=Smoothing(min_frames=(1, 2)))


def test_after_an_error_the_stream_is_as_before_the_push() -> None:
    model, waveform, smoothing = model_of().double(), sound(1).double(), Smoothing(4.0, 2, 7)
    stream = Stream(model, smoothing=smoothing)
    labels = stream.push(waveform[:8000])
    for bad in (np.array([0, np.nan]), np.zeros((2, 2))):
        with pytest.raises((UserError, ValueError)):
            stream.push(bad)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stream, "_rows", lambda *_: 1 / 0)  # after the smoothing has taken the frames
        with pytest.raises(ZeroDivisionError):
            stream.push(waveform[8000:])
        with pytest.raises(ZeroDivisionError):
            stream.flush()
    labels += stream.push(waveform[8000:])
    assert list((labels + stream.flush()).labels) == expected(model, waveform, smoothing)


def test_copies_and_pickles_go_on_by_themselves_and_reset_begins_anew() -> None:
    model, waveform, smoothing = model_of().double(), sound(1).double(), Smoothing(4.0, 2, 7)
    stream = Stream(model, smoothing=smoothing)
    first = stream.push(waveform[:9000])
    others = [copy.deepcopy(stream), ForkingPickler.loads(ForkingPickler.dumps(stream))]
    for each in (*others, stream):
        labels = first + each.push(waveform[9000:]) + each.flush()
        assert list(labels.labels) == expected(model, waveform, smoothing) and each.smoothing == smoothing
    stream.reset()
    assert list(labels_of(stream, [waveform]).labels) == expected(model, waveform, smoothing)


def test_memory_is_constant_and_counted() -> None:
    model = model_of()
    stream, plain, sizes = Stream(model, smoothing=Smoothing(2.0, 2, 20)), Stream(model), []
    for piece in sound(3).split(640):
        stream.push(piece)
        plain.push(piece)
        sizes.append(stream.state_bytes)
    assert len(set(sizes[25:])) == 1
    # log probabilities, class and start of 20 frames; scores [C] and [2, C], starts [C], two classes
    assert sizes[-1] - plain.state_bytes == 20 * (5 * 4 + 16) + 8 * (5 + 10 + 5 + 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_is_smoothed(dtype: torch.dtype) -> None:
    labels = labels_of(Stream(model_of().to(dtype), smoothing=Smoothing(5.0, 2, 5)), sound(1).split(999))
    assert len(labels) == 100 and len(set(labels.labels)) > 1
    assert all(0 <= probability <= 1 for probability in labels.probabilities)


def test_real_speech_has_fewer_short_segments(librispeech_tiny: Any) -> None:
    model, file = load_pretrained(), sorted(librispeech_tiny.rglob("*.flac"))[0]
    waveform = load_audio(file)[0]
    raw, smooth = (labels_of(Stream(model, smoothing=each), [waveform]).segments for each in (None, Smoothing()))
    short = [sum(segment.duration < 0.015 for segment in segments) for segments in (raw, smooth)]
    assert short[0] > 5 and short[1] <= 1 and len(smooth) < len(raw)
