"""Stream and FrameLabels: whatever is pushed, in whatever pieces, gives the labels of the whole audio and their times.

Labels are compared with those of the model on the whole audio where they are certain, probabilities to 1e-5 (float32
in other shapes).
"""

import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from rounding import CERTAIN, assert_labels
from small_streams import CLASSES, labels_of, logits_of, model_of, sound

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.data.audio.files import load_audio
from speechattn.data.labels.frame_labels import labels_to_segments
from speechattn.data.labels.segments import Segment
from speechattn.errors import UserError
from speechattn.framing import Framing
from speechattn.model_config import ModelConfig
from speechattn.models.heads import CTC
from speechattn.models.speech_model import SpeechModel
from speechattn.stream_state import tensors
from speechattn.streaming.labels import FrameLabels
from speechattn.streaming.long_form import encode_long
from speechattn.streaming.stream import Stream


def assert_are_those_of(labels: Any, model: Any, waveform: Any, tolerance: Any = 1e-5) -> None:
    logits = logits_of(model, waveform)
    assert_labels(labels.labels, logits, CLASSES)
    assert len(set(labels.labels)) > 1
    assert labels.probabilities == pytest.approx(logits.softmax(-1).amax(-1).tolist(), abs=tolerance)


def assert_are_the_same(labels: Any, others: Any, tolerance: Any = 1e-5) -> None:
    """Two streams of the same sound: equal times, and labels where the better one is certain."""
    assert (labels.start_s, labels.stop_s) == (others.start_s, others.stop_s)
    assert labels.probabilities == pytest.approx(others.probabilities, abs=tolerance)
    pairs = zip(labels.labels, others.labels, labels.probabilities, strict=True)
    assert all(one == other or probability < 0.5 + CERTAIN for one, other, probability in pairs)


@pytest.mark.parametrize(("seconds", "size"), [(0.03, 1), (0.2, 7), (0.5, 160), (2, 1000), (2, 32_000)])
def test_pushes_of_any_size_give_the_labels_of_the_whole(seconds: Any, size: Any) -> None:
    model, waveform = model_of(), sound(seconds)
    assert_are_those_of(labels_of(Stream(model), waveform.split(size)), model, waveform)


def test_tensors_and_arrays_floats_and_16_bit_integers_are_the_same_sound() -> None:
    model = model_of()
    integers = (sound(0.5) * 32768).round().to(torch.int16)
    floats = integers / 32768
    strided = torch.stack((floats, floats), 1)[:, 0]
    forms = [integers, floats, floats.double(), strided, floats.clone().requires_grad_()]
    forms += [x.detach().numpy() for x in forms] + [floats.tolist()]
    frozen = integers.numpy().copy()
    frozen.flags.writeable = False
    for samples in [*forms, frozen]:
        assert_are_those_of(labels_of(Stream(model), [samples]), model, floats)


def test_a_model_in_float64_computes_in_float64() -> None:
    model, waveform = model_of(position_encoding="rotary").double(), sound(1).double()
    assert_are_those_of(labels_of(Stream(model), waveform.split(1234)), model, waveform, 1e-10)


def test_a_pushed_buffer_may_be_used_again() -> None:
    model, waveform, buffer = model_of(), sound(1), np.empty(1000, np.float32)
    stream, labels = Stream(model), FrameLabels()
    for piece in waveform.split(1000):
        buffer[:] = piece
        labels += stream.push(buffer)
        buffer[:] = np.nan
    assert_are_those_of(labels + stream.flush(), model, waveform)


def test_a_giant_push_is_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechattn.streaming.stream.SECONDS_AT_ONCE", 1)
    model, waveform = model_of(), sound(3.3)
    assert_are_those_of(labels_of(Stream(model), [waveform]), model, waveform)


@pytest.mark.filterwarnings("ignore:.*is resampled to")
@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_another_rate_is_resampled_as_a_file_is(rate: Any, tmp_path: Path) -> None:
    model, samples = model_of(), (sound(1.5, rate) * 32768).round().to(torch.int16)
    soundfile.write(tmp_path / "a.wav", samples.numpy(), rate)
    waveform, _ = load_audio(tmp_path / "a.wav")
    for size in (777, len(samples)):
        assert_are_those_of(labels_of(Stream(model), samples.split(size), sample_rate=rate), model, waveform)


@pytest.mark.parametrize("rate", [44_100.0, np.float64(44_100), np.uint16(44_100), torch.tensor(44_100)])
def test_a_rate_may_be_any_whole_number(rate: Any) -> None:
    model, samples = model_of(), sound(0.5, 44_100)
    labels = labels_of(Stream(model), [samples], sample_rate=rate)
    assert labels.segments == labels_of(Stream(model), [samples], sample_rate=44_100).segments
    rows = list(encode_long(model, samples, sample_rate=rate, progress=False))
    assert abs(sum(map(len, rows)) - 50) <= 1
    with pytest.raises(ValueError, match="sample_rate must be a whole 1000 to 768000 Hz, got"):
        encode_long(model, samples, sample_rate=float(rate) + 0.5, progress=False)  # type: ignore[call-overload]


def test_times_are_those_of_the_frames() -> None:
    model, waveform = model_of(), sound(1)
    labels = labels_of(Stream(model), waveform.split(1000))
    classes = [CLASSES.index(name) for name in labels.labels]
    assert labels.segments == labels_to_segments(classes, model.config.framing, CLASSES)
    assert labels.start_s[0] == 0 and labels.start_s[1:] == labels.stop_s[:-1]
    assert np.diff(labels.start_s[2:]) == pytest.approx(0.01)


def test_labels_of_two_pushes_add_up_and_segments_know_gaps() -> None:
    first = FrameLabels((0.0, 0.1), (0.1, 0.2), ("A", "A"), (0.5, 0.6))
    both = first + FrameLabels((0.2, 0.5), (0.3, 0.6), ("A", "A"), (0.7, 0.8))
    assert len(both) == 4 and both.probabilities == (0.5, 0.6, 0.7, 0.8)
    assert both.segments == [Segment(0.0, 0.3, "A"), Segment(0.5, 0.6, "A")]
    assert FrameLabels().segments == [] and first + FrameLabels() == FrameLabels() + first == first


@pytest.mark.parametrize("stack", [1, 2, 4])
def test_labels_of_ctc_across_pushes_are_those_of_the_whole(stack: Any) -> None:
    model, waveform = model_of("ctc", stack=stack).double(), sound(2).double()  # one other label would be another path
    with torch.no_grad():
        log_probs, lengths = model(waveform[None])
    expected = [CLASSES[c] for c in CTC.decode(log_probs, lengths)[0]]
    path = log_probs[0].argmax(-1).tolist()
    assert len(expected) > 5 and any(a == b != 0 for a, b in pairwise(path)), "it merges something"
    firsts = [i for i, c in enumerate(path) if c and (i == 0 or path[i - 1] != c)]
    for size in (480, 1111, 32_000):
        labels = labels_of(Stream(model), waveform.split(size))
        assert list(labels.labels) == expected == [segment.label for segment in labels.segments]
        framing = model.config.framing
        for i, start, stop in zip(firsts, labels.start_s, labels.stop_s, strict=True):
            assert start <= framing.seconds_at(i * stack) < stop
            assert i == 0 or stop - start == pytest.approx(0.01 * stack, abs=0.0013)  # frame 0 begins at 0


LATENCIES: dict[str, Any] = {
    "right": {"context": Context.truncated(5, 3)},
    "no future at all": {"context": Context.causal(5)},
    "chunks": {"context": Context.chunked(6, 5)},
    "chunks and right": {"context": (Context.chunked(4, 9, 2), Context.chunked(6, 3, 1))},
    "splice": {"context": Context.truncated(5, 1), "splice": Context.truncated(2, 3)},
    "convolution": {"context": Context.causal(4), "block": "conformer", "conv_kernel": 5, "conv_lookahead": 2},
    "deltas": {"features": "mfcc", "context": Context.truncated(5, 1)},
    "snip": {"framing": Framing(align="snip"), "context": Context.truncated(5, 1)},
    "stack": {"head": "ctc", "stack": 4, "context": Context.chunked(2, 5, 1)},
}


@pytest.mark.parametrize("name", LATENCIES)
def test_latency_is_the_most_by_which_a_label_is_measured_to_come_late(name: Any) -> None:
    """In samples: at which count of samples, pushed one by one around each step, do a frame's logits first exist?"""
    model = model_of(**LATENCIES[name])
    framing, stack = model.config.framing, model.config.encoder.stack
    state, late, frames = model.initial_state(), [], 0
    waveform = sound(0.4)
    for begin in range(0, len(waveform), framing.hop):
        # Nothing can come but with a sample that ends a frame; each of those is pushed alone.
        before, state = model.step(waveform[None, begin : begin + framing.hop - 1], state)
        after, state = model.step(waveform[None, begin + framing.hop - 1 : begin + framing.hop], state)
        assert framing.align != "causal" or before.shape[1] == 0
        for _ in range(before.shape[1] + after.shape[1]):
            if frames:  # the centre of the first causal frame lies before the audio
                at = (
                    begin + framing.hop
                    if after.shape[1]
                    else next(
                        n
                        for n in range(begin, begin + framing.hop)
                        if framing.num_frames(n) > framing.num_frames(begin)
                    )
                )
                late.append(at - framing.center_sample(frames * stack))
            frames += 1
    assert frames > 3 and Stream(model).algorithmic_latency_ms == 1000 * max(late) / framing.sample_rate


def test_memory_is_constant_after_warm_up_and_what_the_tensors_hold() -> None:
    stream, sizes = Stream(model_of(block="conformer", conv_kernel=5)), []
    for piece in sound(3).split(640):
        stream.push(piece)
        sizes.append(stream.state_bytes)
    assert len(set(sizes[20:])) == 1
    encoder = stream._progress.state.encoder
    assert sizes[-1] == sum(x.nbytes for x in tensors((stream._progress.state.frontend, encoder.entry, encoder.blocks)))
    assert stream.seconds == pytest.approx(3)


def test_flush_ends_a_stream_and_reset_begins_another() -> None:
    model, waveform = model_of(), sound(0.5)
    stream = Stream(model, nan_policy="zero")
    first = labels_of(stream, [torch.tensor([torch.nan]), waveform])
    for method in (lambda: stream.push(waveform), stream.flush):
        with pytest.raises(ValueError, match=r"was flushed: call reset\(\)"):
            method()  # type: ignore[no-untyped-call]
    stream.reset()
    assert stream.num_bad_samples == 0 and stream.seconds == 0
    assert_are_the_same(labels_of(stream, [waveform]), labels_of(Stream(model), [waveform]))
    assert len(first) == 50
    assert labels_of(Stream(model), []) == FrameLabels(), "no sound, no labels"
    stream.reset()
    assert labels_of(stream, [sound(1.5, 44_100)], sample_rate=44_100).stop_s[-1] == pytest.approx(1.5, abs=0.01)


BAD_PUSHES = [
    (np.float32([0, np.nan, 0]), {}, UserError, r"sample 8001 of the stream \(0\.500 s\) is nan"),  # type: ignore[arg-type]
    (np.float32([np.inf]), {}, UserError, "sample 8000 .* is inf"),  # type: ignore[arg-type]
    (np.float32([1e30]), {}, UserError, r"is 1\.0+\d*e\+30; samples must be finite, in \[-1, 1\]"),  # type: ignore[arg-type]
    (np.float32([99, 1234, -20_000]), {}, UserError, r"sample 8001 .*\(0\.500 s\) is 1234\.0: looks like 16-bit"),  # type: ignore[arg-type]
    (np.float64([1e300]), {}, UserError, "is inf"),  # type: ignore[arg-type]
    (np.zeros((1, 5)), {}, ValueError, r"must be a vector \[n\], got \[1, 5\]\. Give samples\[0\]\."),
    (np.zeros(5, np.int32), {}, TypeError, "floats in .* or 16-bit integers, got int32"),
    (np.zeros(5, np.uint8), {}, TypeError, "16-bit integers, got uint8"),
    (torch.zeros(5, dtype=torch.bfloat16), {}, TypeError, r"got bfloat16: give samples\.float\(\)"),
    (b"\0\0", {}, TypeError, r"got bytes: np\.frombuffer\(data, np\.int16\) makes one"),
    (np.zeros(5), {"sample_rate": 8000}, ValueError, "began with 16000 Hz, got 8000 Hz"),
]


@pytest.mark.parametrize(("samples", "options", "kind", "message"), BAD_PUSHES)
def test_after_a_refused_push_the_stream_goes_on_as_if_it_had_not_been(
    samples: Any, options: Any, kind: Any, message: Any
) -> None:
    model, waveform = model_of(), sound(1)
    stream = Stream(model)
    labels = stream.push(waveform[:8000])
    with pytest.raises(kind, match=message):
        stream.push(samples, **options)
    labels += stream.push(waveform[8000:])
    assert_are_those_of(labels + stream.flush(), model, waveform)
    assert stream.num_bad_samples == 0


@pytest.mark.parametrize("rate", [0, -1, 999, 10**6, 44100.5, "44100", True])
def test_a_rate_that_is_none_is_refused(rate: Any) -> None:
    stream = Stream(model_of())
    with pytest.raises(ValueError, match="sample_rate must be a whole 1000 to 768000 Hz"):
        stream.push(np.zeros(5), sample_rate=rate)
    assert len(stream.push(sound(1), sample_rate=np.int64(48_000))) > 0  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_bad_samples_may_be_heard_as_silence_and_are_counted(rate: Any) -> None:
    model, waveform = model_of(), sound(1, rate)
    clean = waveform.clone()
    clean[[5, 700, 701]] = 0
    waveform[[5, 700, 701]] = torch.tensor([torch.nan, -torch.inf, 1e30])
    stream = Stream(model, nan_policy="zero")
    labels = labels_of(stream, waveform.split(300), sample_rate=rate)
    assert_are_the_same(labels, labels_of(Stream(model), clean.split(300), sample_rate=rate))
    assert stream.num_bad_samples == 3
    with pytest.raises(ValueError, match='nan_policy must be "error" or "zero"'):
        Stream(model, nan_policy="ignore")


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_what_fails_half_way_loses_no_label(rate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of positions ends in the third piece of a long push: the two before are not half remembered."""
    monkeypatch.setattr("speechattn.streaming.stream.SECONDS_AT_ONCE", 1)
    model, waveform = model_of(position_encoding="learned", max_frames=350), sound(4, rate)
    stream = Stream(model)
    labels = stream.push(waveform[: rate // 2], sample_rate=rate)
    before = {name: value for name, value in vars(stream._progress).items() if name != "is_torn"}
    with pytest.raises(ValueError, match=r'learned positions end at frame 350, .* or position_encoding="relative"'):
        stream.push(waveform[rate // 2 :], sample_rate=rate)
    assert all(vars(stream._progress)[name] is value for name, value in before.items())
    if rate == 16_000:
        labels += stream.push(waveform[rate // 2 : rate])
        assert_labels(labels.labels, logits_of(model, waveform[:rate])[: len(labels)], CLASSES)
        assert len(labels + stream.flush()) == 100
    else:  # the resampler cannot go back
        with pytest.raises(ValueError, match=r"failed after resampling: flush\(\) the pending labels, then reset\(\)"):
            stream.push(waveform[rate // 2 : rate], sample_rate=rate)
        assert 40 < len(labels + stream.flush()) <= 50
        stream.reset()
        assert len(stream.push(waveform[:rate], sample_rate=rate)) > 80


def test_many_streams_in_threads_on_one_model_are_as_alone() -> None:
    model, waveforms = model_of(num_layers=1), [sound(0.12, seed=seed) for seed in range(50)]
    alone = [labels_of(Stream(model), waveform.split(900)) for waveform in waveforms]
    found, failures = {}, []

    def listen(thread: Any) -> None:
        try:
            streams = [Stream(model) for _ in waveforms]
            labels = [FrameLabels()] * len(streams)
            for begin in range(0, len(waveforms[0]), 900):  # all streams of a thread run side by side
                for i, stream in enumerate(streams):
                    labels[i] += stream.push(waveforms[i][begin : begin + 900])
            found[thread] = [labels[i] + stream.flush() for i, stream in enumerate(streams)]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=listen, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and len(found) == 8
    # Rounding may differ: torch.set_num_threads of the main thread holds in no other one everywhere.
    for labels in found.values():
        for one, other in zip(labels, alone, strict=True):
            assert_are_the_same(one, other)


def test_one_stream_in_two_threads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, waveform = model_of(), sound(0.5)
    stream, inside, go_on = Stream(model), threading.Event(), threading.Event()
    step, labels = model.step, []

    def slow(*arguments: Any) -> Any:
        inside.set()
        assert go_on.wait(60)
        return step(*arguments)

    monkeypatch.setattr(model, "step", slow)
    other = threading.Thread(target=lambda: labels.append(stream.push(waveform)))
    other.start()
    assert inside.wait(60)
    for method in (lambda: stream.push(waveform), stream.flush, stream.reset):
        with pytest.raises(RuntimeError, match="busy in another thread: give each thread a stream of its own"):
            method()
    go_on.set()
    other.join()
    assert_are_those_of(labels[0] + stream.flush(), model, waveform)


def test_a_model_in_training_mode_warns_once_where_its_stream_is_opened() -> None:
    model = model_of().train()
    with pytest.warns(UserWarning) as caught:
        stream = Stream(model)
    assert [str(warning.message) for warning in caught] == [
        "streaming in training mode: dropout is active. Call model.eval()."
    ]
    assert caught[0].filename == __file__
    for piece in sound(1).split(4000):
        stream.push(piece)  # a second warning would be an error here
    stream.flush()
    with pytest.warns(UserWarning, match="dropout is active"):
        Stream(model.eval().train())


@pytest.mark.parametrize("nan", ["error", "zero"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_16_bit_samples_as_floats_are_refused(nan: Any, rate: Any) -> None:
    model, integers = model_of(), (sound(0.5, rate) * 32768).round()
    stream = Stream(model, nan)
    with pytest.raises(UserError, match=r"sample \d+ of the stream .* 16-bit samples as floats; divide by 32768\.$"):
        stream.push(integers, rate)
    assert stream.num_bad_samples == 0
    labels = stream.push(integers / 32768, rate) + stream.flush()
    assert_are_the_same(labels, labels_of(Stream(model), [integers.to(torch.int16)], sample_rate=rate))
    assert len(Stream(model).push(sound(1) * 20)) > 0, "clipped and far too loud, but honest"


def test_a_warning_made_an_error_leaves_the_stream_as_it_was() -> None:
    model, waveform = model_of(), sound(0.5)
    stream = Stream(model)
    labels = stream.push(waveform[:4000])
    model.train()
    with pytest.raises(UserWarning, match="dropout is active"):
        stream.push(waveform[4000:])
    model.eval()
    assert_are_those_of(labels + stream.push(waveform[4000:]) + stream.flush(), model, waveform)


def test_ctrl_c_inside_a_push_leaves_the_stream_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model, waveform = model_of(), sound(0.5)
    stream, labels_from = Stream(model), Stream._label

    def interrupted(self: Any, logits: Any) -> None:
        labels_from(self, logits)
        raise KeyboardInterrupt

    labels = stream.push(waveform[:4000])
    monkeypatch.setattr(Stream, "_label", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stream.push(waveform[4000:])
    monkeypatch.undo()
    assert_are_those_of(labels + stream.push(waveform[4000:]) + stream.flush(), model, waveform)


def test_inference_mode_and_none_may_take_turns() -> None:
    model, waveform = model_of(), sound(1)
    stream, labels = Stream(model), FrameLabels()
    for begin in range(0, 16_000, 1000):
        with torch.inference_mode(mode=begin % 2000 == 0):
            labels += stream.push(waveform[begin : begin + 1000])
    assert_are_those_of(labels + stream.flush(), model, waveform)


def test_what_cannot_stream_says_so_before_the_first_sample() -> None:
    with pytest.raises(ValueError, match="unlimited right context cannot stream"):
        Stream(model_of(context=Context.full()))
    with pytest.raises(ValueError, match='use align="causal"'):
        Stream(model_of(framing=Framing(align="center")))


def test_classes_may_be_a_list() -> None:
    encoder = EncoderConfig(12, d_model=8, num_heads=2, num_layers=1, context=Context(3, 1))
    config = ModelConfig(["SIL", "AA"], encoder, 12)  # type: ignore[arg-type]
    assert len(labels_of(Stream(SpeechModel(config).eval()), [sound(0.5)])) == 50
