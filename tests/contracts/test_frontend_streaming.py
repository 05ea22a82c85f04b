"""A stream of samples gives the frames of the whole, for any split, and each as early as possible."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_same

from speechattn.framing import Framing
from speechattn.frontend.logmel import LogMel
from speechattn.frontend.mfcc import MFCC

FRAMINGS = [Framing(), Framing(align="snip"), Framing(8000, 200, 80), Framing(16000, 160, 160), Framing(16000, 401, 7)]
frontends = st.builds(
    lambda framing, flavor, deltas: (
        LogMel(12, framing, flavor) if deltas is None else MFCC(5, 12, framing, flavor, deltas=deltas)
    ).double(),
    st.sampled_from(FRAMINGS),
    st.sampled_from(["kaldi", "librosa"]),
    st.none() | st.integers(0, 3),
)


def streamed(frontend: LogMel, waveform: torch.Tensor, sizes: list[int]) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """Push pieces of `sizes` samples and the rest; return all frames, and (samples, frames) after each push."""
    state = frontend.initial_state(len(waveform))
    pieces: list[torch.Tensor] = []
    counts = []
    for piece in torch.split(waveform, [*sizes, waveform.shape[1] - sum(sizes)], 1):
        frames, state = frontend.step(piece, state)
        pieces.append(frames)
        counts.append((state.num_samples, sum(x.shape[1] for x in pieces)))
    return torch.cat([*pieces, frontend.flush(state)], 1), counts


@settings(max_examples=60, deadline=None)
@given(
    frontend=frontends,
    num_samples=st.integers(0, 4000),
    cuts=st.lists(st.integers(0, 4000), max_size=6),
    batch_size=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_any_split_gives_the_frames_of_the_whole(
    frontend: LogMel, num_samples: int, cuts: list[int], batch_size: int, seed: int
) -> None:
    waveform = torch.rand(batch_size, num_samples, dtype=torch.float64, generator=torch.manual_seed(seed)) - 0.5
    places = sorted(min(cut, num_samples) for cut in cuts)
    sizes = [stop - start for start, stop in zip([0, *places], places, strict=False)]
    expected, _ = frontend(waveform)
    found, counts = streamed(frontend, waveform, sizes)
    assert found.shape == expected.shape
    assert found.numel() == 0 or (found - expected).abs().max() <= 1e-10 * expected.abs().max()
    wait = getattr(frontend, "lookahead", 0)
    for samples, frames in counts:  # all complete frames, except those that wait for their deltas
        assert frames == max(0, frontend.framing.num_frames(samples) - wait)


@pytest.mark.parametrize("frontend", [LogMel(12), MFCC(5, 12, deltas=2)], ids=["logmel", "mfcc"])
def test_frames_come_sample_by_sample(frontend: LogMel) -> None:
    waveform = torch.rand(1, 900) - 0.5
    expected, _ = frontend(waveform)
    found, _ = streamed(frontend, waveform, [1] * 900)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_state_is_never_changed_and_stays_small() -> None:
    frontend, generator = MFCC(5, 12), torch.manual_seed(0)
    state = frontend.initial_state(2)
    _, state = frontend.step(torch.rand(2, 10_000, generator=generator), state)
    kept = [x.clone() for x in (state.samples, *state.waiting)]
    piece = torch.rand(2, 5000, generator=generator)
    first, after = frontend.step(piece, state)
    second, _ = frontend.step(piece, state)
    assert_same(first, second)
    assert all(torch.equal(x, y) for x, y in zip(kept, (state.samples, *state.waiting), strict=True))
    assert after.samples.shape[1] < 400 + 160 and after.samples.untyped_storage().nbytes() == after.samples.nbytes
    assert [x.shape[1] for x in after.waiting] == [4, 4]


def test_centred_frames_and_wrong_waveforms_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot stream"):
        LogMel(12, Framing(align="center")).initial_state()
    frontend = LogMel(12)
    for wrong in (torch.zeros(1, 5, dtype=torch.float64), torch.zeros(2, 5)):
        with pytest.raises(ValueError, match=r"the stream is torch.float32 \[1, n\]"):
            frontend.step(wrong, frontend.initial_state())
    with pytest.raises(ValueError, match="batch_size must be a whole number from 1"):
        frontend.initial_state(0)


def test_a_bad_sample_is_counted_from_the_beginning_of_the_stream() -> None:
    frontend = LogMel(12)
    _, state = frontend.step(torch.zeros(1, 16_000), frontend.initial_state())
    bad = torch.zeros(1, 100)
    bad[0, 7] = torch.nan
    with pytest.raises(ValueError, match=r"nan at sample 16007 \(1\.000 s\)"):
        frontend.step(bad, state)
    lenient = LogMel(12, nan_policy="zero")
    _, state = lenient.step(bad, lenient.initial_state())
    assert state.samples.isfinite().all()
