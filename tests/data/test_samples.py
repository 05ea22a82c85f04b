"""Samples in any form become the same floats, and are resampled and cut the same whatever their blocks are."""

import array
import itertools
from typing import Any

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechattn.data.audio.samples import as_floats, cut, first_fault, resampled

INTEGERS = np.array([-32768, -1, 0, 1, 32767], np.int16)
FLOATS = INTEGERS / 32768
FORMS: dict[str, Any] = {
    "int16 array": INTEGERS,
    "int16 tensor": torch.from_numpy(INTEGERS),
    "array.array": array.array("h", INTEGERS.tolist()),
    "float64 array": FLOATS,
    "float32 array": FLOATS.astype(np.float32),
    "list": FLOATS.tolist(),
    "parameter": torch.tensor(FLOATS, requires_grad=True),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", FORMS)
def test_16_bit_integers_and_floats_are_the_same_samples(form: str, dtype: type) -> None:
    found = as_floats(FORMS[form], dtype)
    assert found.dtype == dtype and np.array_equal(found, FLOATS), "16 bits fit into float32"


def test_the_result_is_a_copy_and_an_empty_list_is_a_vector() -> None:
    floats = FLOATS.astype(np.float32)
    as_floats(floats)[:] = 7
    assert np.array_equal(floats, FLOATS)
    assert as_floats([]).shape == as_floats(np.zeros(0, np.int64)).shape == (0,)
    assert as_floats([1e300]).tolist() == [np.inf], "what does not fit is infinite"


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        (np.float32(0.5), ValueError, r"a vector \[n\], got float32\.$"),
        (torch.tensor(0.5), ValueError, r"a vector \[n\], got Tensor\.$"),
        (None, ValueError, r"a vector \[n\], got NoneType\.$"),
        ("speech.wav", ValueError, r"a vector \[n\], got str\.$"),
        (np.zeros((2, 9)), ValueError, r"got \[2, 9\]\. Average the channels first\.$"),
        (torch.zeros(1, 9), ValueError, r"got \[1, 9\]\. Give samples\[0\]\.$"),
        (np.zeros((9, 1)), ValueError, r"got \[9, 1\]\. Give samples\[:, 0\]\.$"),
        (np.zeros((2, 9, 1)), ValueError, r"got \[2, 9, 1\]\.$"),
        (b"\0\0", TypeError, r"a vector \[n\], got bytes: np\.frombuffer\(data, np\.int16\) makes one\.$"),
        ([0, 1], TypeError, r"floats in .* or 16-bit integers, got int64\. Divide by 2\*\*31; or if .* int16\.$"),
        (np.zeros(9, np.uint8), TypeError, r"got uint8\. If they are 8-bit sound, \(samples - 128\.0\) / 128\.$"),
        (np.zeros(9, bool), TypeError, r"16-bit integers, got bool\.$"),
        (torch.zeros(9, dtype=torch.int32), TypeError, r"16-bit integers, got int32\. Divide by 2\*\*31\.$"),
        (torch.zeros(9, dtype=torch.float16), TypeError, r"16-bit integers, got float16\. Make them float32\.$"),
        (torch.zeros(9, dtype=torch.bfloat16), TypeError, r"got bfloat16: give samples\.float\(\)\.$"),
    ],
    ids=lambda x: repr(x)[:30],
)
def test_other_types_are_refused_in_one_clear_line(samples: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        as_floats(samples)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("samples", "found"),
    [
        ([], None),
        ([-100, 1.5], None),
        ([0, -101, 32768], (1, "is -101.0: looks like 16-bit samples as floats; divide by 32768")),
        ([200, 2**23], (0, "is 200.0: looks like 24-bit samples as floats; divide by 8388608")),
        ([200, -(2**31), np.nan, 1e30], (0, "is 200.0: looks like 32-bit samples as floats; divide by 2147483648")),
        ([0, 0, np.nan, 200], (2, "is nan; samples must be finite, in [-1, 1]")),
        ([-np.inf], (0, "is -inf; samples must be finite, in [-1, 1]")),
    ],
)
def test_the_first_sample_out_of_range_is_found(
    samples: list[float], found: tuple[int, str] | None, dtype: type
) -> None:
    assert first_fault(np.array(samples, dtype)) == found


pieces = st.lists(st.integers(0, 3000), max_size=6)


@given(sizes=pieces, rate=st.sampled_from([8000, 11_025, 44_100]))
def test_resampling_does_not_depend_on_the_cut(sizes: list[int], rate: int) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, sum(sizes))
    blocks = np.split(samples, np.cumsum(sizes)[:-1]) if sizes else []
    found = np.concatenate(list(resampled(blocks, rate, 16_000, "float64")))
    expected = soxr.resample(samples, rate, 16_000)
    assert found.shape == expected.shape and np.allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rate", "about_ms"), [(8000, 116), (22_050, 40), (44_100, 40), (48_000, 37)])
def test_a_resampler_is_as_late_as_documented(rate: int, about_ms: float) -> None:
    """docs/streaming.md has these numbers: the largest delay of samples that are pushed 1 ms at a time."""
    size, given, out, late = rate // 1000, 0, 0, []
    for block in resampled(itertools.repeat(np.zeros(size), 1000), rate, 16_000, "float64"):
        given, out = given + size, out + len(block)
        late.append(1000 * (given / rate - out / 16_000))
    assert max(late[200:1000]) == pytest.approx(about_ms, abs=2)


@given(sizes=pieces, size=st.integers(1, 4000), columns=st.sampled_from([(), (3,)]))
def test_cutting_gives_the_same_rows_in_equal_blocks(sizes: list[int], size: int, columns: tuple[int, ...]) -> None:
    rows = np.arange(sum(sizes) * 3).reshape(-1, 3)[:, :3] if columns else np.arange(sum(sizes))
    blocks = np.split(rows, np.cumsum(sizes)[:-1]) if sizes else []
    found = list(cut(blocks, size))
    assert all(len(block) == size for block in found[:-1]) and all(0 < len(block) <= size for block in found)
    assert np.array_equal(np.concatenate([rows[:0], *found]), rows)
