"""Every entrance takes every dtype or refuses it in one line, and sums over frames do not overflow.

Half precision differs from float32 by the rounding of its weights and of what lies between: 11 and 8 bits, some times.
"""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from speechattn.augment.frames import Augment
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.baselines import build_encoder
from speechattn.errors import UserError
from speechattn.framing import Framing
from speechattn.frontend.logmel import LogMel
from speechattn.frontend.mfcc import MFCC
from speechattn.frontend.normalize import Normalize
from speechattn.integrations.speechbrain import SpeechAttnEncoder, frames_of
from speechattn.model_config import ModelConfig
from speechattn.models.heads import CTC, FrameClassifier, UtteranceClassifier
from speechattn.models.speech_model import SpeechModel, load
from speechattn.streaming.long_form import encode_long
from speechattn.streaming.stream import Stream

STREAMING, OTHERS = ("transformer", "conformer", "cnn"), ("mlp", "linear", "bigru")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
ROUNDING = {torch.float16: 1e-2, torch.bfloat16: 6e-2, torch.float32: 1e-5, torch.float64: 1e-5}
"""The most that a model of a dtype may differ from the same one in float32: some roundings of numbers about 1."""
STREAMED = {torch.float16: 5e-3, torch.bfloat16: 4e-2, torch.float32: 1e-5, torch.float64: 1e-10}
"""And a stream from the whole at once: some roundings, for products of other shapes are summed in another order."""
FRAMING = Framing(1000, 25, 10)
WAVEFORM = torch.randn(2, 600, generator=torch.Generator().manual_seed(1)) / 10


def encoder_config(block: str) -> EncoderConfig:
    positions = "alibi" if block == "transformer" else "rotary"
    return EncoderConfig(
        8,
        d_model=16,
        num_heads=2,
        num_layers=2,
        block=block,
        position_encoding=positions,
        context=Context.truncated(6, 2),
        conv_kernel=5,
    )


def model(block: str, head: str = "frames") -> SpeechModel:
    torch.manual_seed(0)
    made = SpeechModel(ModelConfig(("SIL", "AA", "B"), encoder_config(block), num_mels=8, framing=FRAMING, head=head))
    made.normalize.mean.fill_(-7.123456)
    made.normalize.std.fill_(2.3456789)
    return made.eval()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block", STREAMING + OTHERS)
@torch.no_grad()
def test_a_model_of_any_dtype_takes_waveforms_of_both_dtypes_and_is_near_float32(
    block: str, dtype: torch.dtype
) -> None:
    for head in ("frames", "ctc"):
        plain = model(block, head)
        expected, _ = plain(WAVEFORM)
        converted = copy.deepcopy(plain).to(dtype)
        for waveform in (WAVEFORM, WAVEFORM.double()):
            logits, _ = converted(waveform)
            assert (logits.double() - expected.double()).abs().max() < ROUNDING[dtype]
            # Log probabilities are float32 at least, or their exponentials would not sum to 1.
            assert logits.dtype == (torch.promote_types(dtype, torch.float32) if head == "ctc" else dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block", STREAMING)
@torch.no_grad()
def test_a_stream_of_any_dtype_gives_what_the_whole_gives(block: str, dtype: torch.dtype) -> None:
    converted = model(block).to(dtype)
    whole, _ = converted(WAVEFORM)
    for waveform in (WAVEFORM, WAVEFORM.double()):
        state, parts = converted.initial_state(2), []
        for push in waveform.split(171, 1):  # type: ignore[no-untyped-call]
            logits, state = converted.step(push, state)
            parts.append(logits)
        logits = torch.cat([*parts, converted.flush(state)], 1)
        assert logits.dtype == dtype and (logits - whole).abs().max() < STREAMED[dtype]
    stream = Stream(converted)
    labels = stream.push(WAVEFORM[0]) + stream.flush()
    probabilities = whole[0].double().softmax(-1).amax(-1)
    assert len(labels) == 60 and np.allclose(labels.probabilities, probabilities, atol=STREAMED[dtype])
    rows = torch.cat(list(encode_long(converted, WAVEFORM[0].double(), progress=False)))
    assert (rows - whole[0]).abs().max() < STREAMED[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_encode_long_of_frames_takes_any_float(dtype: torch.dtype) -> None:
    encoder = model("transformer").to(dtype).encoder
    frames = torch.randn(30, 8)
    whole = encoder(frames[None].to(dtype))[0][0]
    for source in (frames, frames.double(), frames.to(dtype)):
        rows = torch.cat(list(encode_long(encoder, source, block_frames=7, progress=False)))  # type: ignore[call-overload]
        assert (rows - whole).abs().max() < 2 * ROUNDING[dtype]


@pytest.mark.parametrize("block", STREAMING + OTHERS)
@pytest.mark.parametrize(
    ("input", "message"),
    [
        (
            torch.zeros(1, 9, 8, dtype=torch.float64),
            "input must be torch.float32 as the encoder is, got torch.float64: use input.to(torch.float32) or "
            "encoder.to(torch.float64).",
        ),
        (
            torch.zeros(1, 9, 8, dtype=torch.int64),
            "input must be a floating tensor, got torch.int64: use input.float().",
        ),
        (np.zeros((1, 9, 8)), "input must be a floating tensor, got ndarray: use torch.as_tensor(input)."),
    ],
)
def test_frames_of_another_dtype_are_refused_in_one_line(block: str, input: torch.Tensor, message: str) -> None:
    encoder = build_encoder(encoder_config(block)).eval()
    entrances = [encoder]
    if block in STREAMING:
        lengths, state = torch.tensor([9]), encoder.initial_state()  # type: ignore[operator]
        entrances += [lambda x: encoder.step(x, state), lambda x: encoder.infer(x, lengths)]  # type: ignore[list-item, operator]
    if block == "transformer":
        lobe = SpeechAttnEncoder(**encoder_config(block).to_dict())
        entrances += [lobe, lambda x: lobe(x, torch.ones(1))]  # type: ignore[list-item]
    for entrance in entrances:
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            entrance(input)


@pytest.mark.parametrize("dtype", DTYPES)
def test_under_autocast_an_encoder_takes_any_float(dtype: torch.dtype) -> None:
    for block in ("transformer", "conformer", "mlp"):
        encoder = build_encoder(encoder_config(block)).eval()
        frames = torch.randn(1, 9, 8)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert (encoder(frames.to(dtype))[0].float() - encoder(frames)[0].float()).abs().max() < 0.1


@pytest.mark.parametrize("way", ["forward", "step"])
@pytest.mark.parametrize("kind", ["logmel", "mfcc", "model"])
def test_a_refused_waveform_is_answered_with_its_divisor(kind: str, way: str) -> None:
    makers = {"logmel": LogMel(8, FRAMING), "mfcc": MFCC(4, 8, FRAMING)}
    taker = model("transformer") if kind == "model" else makers[kind]
    entrance = taker if way == "forward" else lambda x: taker.step(x, taker.initial_state(len(x)))  # type: ignore[arg-type]
    for integers, fix in (
        (torch.int8, "waveform.float() / 128."),
        (torch.uint8, "(waveform.float() - 128) / 128."),
        (torch.int16, "waveform.float() / 32768."),
        (torch.int32, "waveform.float() / 2**31."),
        (torch.float16, "waveform.float()."),
    ):
        with pytest.raises(TypeError, match=f"^waveform must be float32 .*, got {integers}: use {re.escape(fix)}$"):
            entrance(torch.zeros(1, 99, dtype=integers))
    with pytest.raises(TypeError, match="got ndarray"):
        entrance(np.zeros((1, 99)))
    for dtype in (torch.float32, torch.float64) if way == "forward" or kind == "model" else (torch.float32,):
        unscaled = (WAVEFORM * 32767).to(torch.int16).to(dtype)
        with pytest.raises(UserError, match=r"looks like 16-bit samples .* divide by 32768: waveform / 32768\.$"):
            entrance(unscaled)
        loud = WAVEFORM.to(dtype) * 99 / WAVEFORM.abs().max()  # what augmentation may make
        output = entrance(loud)[0]
        assert output.isfinite().all()


def test_a_sum_over_minutes_does_not_overflow_in_half_precision() -> None:
    logits = torch.randn(1, 20_000, 5) * 4
    labels = torch.randint(0, 5, (1, 20_000))
    expected = FrameClassifier.loss(logits, labels)
    for dtype, close in ((torch.float16, 1e-2), (torch.bfloat16, 5e-2)):
        narrow = logits.to(dtype).requires_grad_()
        loss = FrameClassifier.loss(narrow, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        assert narrow.grad.dtype == dtype  # type: ignore[union-attr]
        assert loss.dtype == torch.float32 and abs(loss - expected) < close
        head = UtteranceClassifier(5, 3)
        hidden = logits + 10  # a sum of 2e5, and half precision ends at 65504
        assert (head(hidden) - copy.deepcopy(head).to(dtype)(hidden.to(dtype)).float()).abs().max() < 0.1
        rows = UtteranceClassifier.loss(logits[0].to(dtype), labels[0])
        assert rows.dtype == torch.float32 and abs(rows - expected) < close
    assert FrameClassifier.loss(logits.double(), labels).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_ctc_in_half_precision_has_a_loss_and_probabilities_that_sum_to_one(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    head, hidden = CTC(8, 5), torch.randn(2, 9, 8)
    call = (torch.tensor([9, 7]), torch.tensor([[1, 2], [3, 3]]), torch.tensor([2, 1]))
    expected = head.loss(head(hidden), *call)
    narrow = copy.deepcopy(head).to(dtype)
    input = hidden.to(dtype).requires_grad_()
    log_probs = narrow(input)
    loss = narrow.loss(log_probs, *call)
    loss.backward()  # type: ignore[no-untyped-call]
    assert input.grad.dtype == dtype and input.grad.isfinite().all()  # type: ignore[union-attr]
    assert narrow.loss(log_probs.to(dtype), *call).isfinite()  # torch has no kernel for these
    with torch.autocast("cpu", dtype):
        mixed = head(hidden)
        assert abs(head.loss(mixed, *call) - expected) < 0.1
    assert abs(loss - expected) < 0.1
    for found in (log_probs, mixed):
        assert (found.exp().sum(-1) - 1).abs().max() < 1e-5  # float32


def test_normalisation_keeps_its_digits_in_half_precision(tmp_path: Path) -> None:
    fitted = Normalize.fit([torch.randn(50, 3) * 2.345678 - 9.87654])
    frames = torch.randn(1, 5, 3) - 9
    for narrow in (copy.deepcopy(fitted).half(), copy.deepcopy(fitted).bfloat16().to("cpu")):
        assert torch.equal(narrow.mean, fitted.mean) and torch.equal(narrow(frames), fitted(frames))
        assert narrow(frames.half()).dtype == torch.float16
    with pytest.raises(TypeError, match=r"got torch\.int64: use input\.float"):
        fitted(frames.long())
    saved = model("linear").bfloat16()
    saved.save(tmp_path)
    assert torch.equal(load(tmp_path).normalize.mean, model("linear").normalize.mean)


def test_augmentation_and_relative_lengths_in_half_precision() -> None:
    frames = torch.randn(1, 50, 8) * 2 + 12  # powers of e^12 and their sums: infinite in half precision
    augmented = Augment()(frames.half(), None, torch.Generator().manual_seed(0))
    assert augmented.dtype == torch.float16 and augmented.isfinite().all()
    assert (augmented - Augment()(frames, None, torch.Generator().manual_seed(0))).abs().max() < 0.05
    assert frames_of(torch.tensor([1.0, 0.5], dtype=torch.bfloat16), 20_001).tolist() == [20_001, 10_000]
