"""torchaudio's RNNT around our encoder: training, beam search over a whole utterance, and the same one streamed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.encoder import Encoder
from speechattn.integrations.torchaudio import finish, rnnt, rnnt_loss
from speechattn.system.optional_imports import require_torchaudio

SYMBOLS, BLANK, FEATURES, BEAM = 5, 4, 6, 3
TOLERANCE = 1e-4  # float32: a push and a whole utterance round differently, and 40 frames of scores add up
torchaudio = require_torchaudio("this test")

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
Trained = tuple[nn.Module, list[float]]


def utterances(count: int, generator: torch.Generator) -> Batch:
    """Frames, lengths, tokens, token counts: each token is a tone of 5 to 7 frames, and silence lies between."""
    tone = torch.eye(SYMBOLS, FEATURES)
    rows, tokens = [], []
    for _ in range(count):
        chosen = torch.randint(0, BLANK, (int(torch.randint(2, 5, (), generator=generator)),), generator=generator)
        parts = [torch.zeros(3, FEATURES)]
        for token in chosen:
            parts += [tone[token].expand(int(torch.randint(5, 8, (), generator=generator)), -1), parts[0]]
        rows.append(torch.cat(parts))
        tokens.append(chosen)
    frames = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths, counts = (torch.tensor([len(row) for row in part]) for part in (rows, tokens))
    return frames + 0.1 * torch.randn(frames.shape, generator=generator), lengths, padded(tokens), counts


def padded(tokens: list[Tensor]) -> Tensor:
    return nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=-100)


def small(**settings: Any) -> nn.Module:
    base: dict[str, Any] = {"input_dim": FEATURES, "d_model": 32, "num_heads": 2, "num_layers": 2, "dropout": 0.0}
    base["context"] = Context.chunked(4, left=12, right=2)
    torch.manual_seed(0)
    return rnnt(Encoder(EncoderConfig(**{**base, **settings})), SYMBOLS, embedding_dim=16)


@pytest.fixture(scope="module")
def batch() -> Batch:
    return utterances(8, torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def trained(batch: Batch) -> Trained:
    """A model that overfits the batch, and its losses during training."""
    model, losses = small(), []
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = rnnt_loss(model, *batch, BLANK)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return model.eval(), losses


def search_of(model: nn.Module) -> Any:
    return torchaudio.models.RNNTBeamSearch(model, BLANK, step_max_tokens=5)


def streamed(search: Any, frames: Tensor, pushes: list[int]) -> tuple[list[Any], list[Any]]:
    """Hypotheses before and after `finish`, of frames [T, F] pushed in blocks of these sizes."""
    state: Any = None
    hypotheses: Any = None
    with torch.no_grad():
        for part in torch.split(frames, pushes):
            hypotheses, state = search.infer(part, torch.tensor(len(part)), BEAM, state, hypotheses)
    return hypotheses, finish(search, state, hypotheses, BEAM)


def same(found: list[Any], expected: list[Any]) -> None:
    assert [hypothesis[0] for hypothesis in found] == [hypothesis[0] for hypothesis in expected]
    first, second = (torch.tensor([hypothesis[3] for hypothesis in part]) for part in (found, expected))
    assert torch.allclose(first, second, atol=TOLERANCE), (first, second)


def test_the_loss_of_a_toy_task_falls(trained: Trained) -> None:
    _, losses = trained
    assert losses[0] > 10 and losses[20] < 5 and losses[-1] < 0.2


def test_beam_search_over_a_whole_utterance_finds_its_tokens(trained: Trained, batch: Batch) -> None:
    search = search_of(trained[0])
    for row, length, wanted, count in zip(*batch, strict=True):
        with torch.no_grad():
            best = search(row[:length], length, BEAM)[0]  # torchaudio searches padding too, for any `length`
        assert best[0] == [BLANK, *wanted[:count].tolist()], "torchaudio begins every hypothesis with the blank"


@pytest.mark.parametrize("push", [1, 3, 16, 1000])
def test_streamed_beam_search_finds_the_same_tokens_and_scores(trained: Trained, batch: Batch, push: int) -> None:
    search = search_of(trained[0])
    for row, length in zip(batch[0][:3], batch[1], strict=False):
        row = row[:length]
        pushes = [push] * (len(row) // push) + [len(row) % push]  # the last may be a push of nothing
        with torch.no_grad():
            whole = search(row, length, BEAM)
        same(streamed(search, row, pushes)[1], whole)


def test_without_finish_the_end_of_the_audio_is_lost(trained: Trained, batch: Batch) -> None:
    search, row = search_of(trained[0]), batch[0][0]
    wanted = [BLANK, *batch[2][0, : batch[3][0]].tolist()]
    with torch.no_grad():  # the shortest beginning with all tokens: the last one needs its last frames
        shortest = next(n for n in range(1, len(row)) if search(row[:n], torch.tensor(n), BEAM)[0][0] == wanted)
    unfinished, finished = streamed(search, row[:shortest], [shortest])
    assert len(unfinished[0][0]) < len(wanted) and finished[0][0] == wanted


@pytest.mark.parametrize("settings", [{"stack": 4}, {"block": "conformer", "position_encoding": "rotary"}], ids=str)
def test_other_encoders_stream_the_same_hypotheses(settings: dict[str, object]) -> None:
    model = small(**settings).eval()
    search = search_of(model)
    frames = torch.randn(43, FEATURES)
    with torch.no_grad():
        whole = search(frames, torch.tensor(43), BEAM)
    same(streamed(search, frames, [5, 0, 20, 1, 17])[1], whole)


def test_a_stream_that_owes_nothing_finishes_as_it_is(trained: Trained) -> None:
    model = small(context=Context.causal(left=8)).eval()
    before, after = streamed(search_of(model), torch.randn(11, FEATURES), [6, 5])
    same(after, before)


def test_the_loss_of_a_row_depends_on_nothing_past_its_ends() -> None:
    model = small(stack=2)
    frames, lengths, tokens, counts = utterances(1, torch.Generator().manual_seed(5))
    alone = rnnt_loss(model, frames, None, tokens, counts, BLANK)
    longer = torch.cat([frames, torch.full((1, 9, FEATURES), torch.nan)], 1)
    unused = torch.cat([tokens, torch.full((1, 3), 77)], 1)
    beside = rnnt_loss(model, longer, lengths, unused, counts, BLANK)
    assert torch.allclose(alone, beside, atol=1e-5 * float(alone.detach()))


def test_what_cannot_be_aligned_is_refused() -> None:
    model, frames = small(stack=4), torch.randn(2, 20, FEATURES)
    tokens, counts = torch.tensor([[0, -100], [0, -100]]), torch.tensor([1, 1])
    with pytest.raises(ValueError, match=r"got output lengths \[5, 0\]: drop such rows"):
        rnnt_loss(model, frames, torch.tensor([20, 3]), tokens, counts, BLANK)
    for wrong in (BLANK, -1):
        with pytest.raises(ValueError, match=r"symbols in \[0, 4\)"):
            rnnt_loss(model, frames, None, tokens.fill_(wrong), counts, BLANK)


def test_the_transcriber_is_the_encoder_itself() -> None:
    encoder = Encoder(EncoderConfig(FEATURES, d_model=8, num_heads=2, num_layers=1))
    model = rnnt(encoder, SYMBOLS)
    assert isinstance(model, torchaudio.models.RNNT) and model.transcriber is encoder
    assert {name for name in model.state_dict() if name.startswith("transcriber.")} == {
        f"transcriber.{name}" for name in encoder.state_dict()
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_loss_of_a_model_of_any_dtype_is_that_of_float32(batch: Batch, dtype: torch.dtype) -> None:
    model = small(position_encoding="rotary")
    frames, lengths, tokens, counts = batch
    with torch.no_grad():
        expected = rnnt_loss(model, frames, lengths, tokens, counts, BLANK)
        loss = rnnt_loss(model.to(dtype), frames.to(dtype), lengths, tokens, counts, BLANK)
    assert loss.dtype == torch.float32 and abs(loss - expected) < 5e-3 * expected  # some roundings of logits about 1
