"""The mask says True for may attend, everywhere; the picture is the mask."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from speechattn.attention.masks import band_mask, context_mask, picture
from speechattn.context import Context

sides = st.one_of(st.none(), st.integers(0, 9))


@given(st.builds(Context, sides, sides, st.integers(1, 7)), st.integers(0, 40))
def test_the_mask_is_visible(context: Context, num_frames: int) -> None:
    mask = context_mask(context, num_frames)
    for i in range(num_frames):
        start, stop = context.visible(i, num_frames)
        assert mask[i].nonzero().flatten().tolist() == list(range(start, stop))  # type: ignore[arg-type]


def test_a_band_is_a_part_of_the_mask() -> None:
    context = Context.chunked(4, 3, 2)
    whole = context_mask(context, 50)
    part = band_mask(context, torch.arange(13, 20), torch.arange(5, 40))
    assert torch.equal(part, whole[13:20, 5:40])


def test_the_picture_shows_the_chunks() -> None:
    assert picture(Context.truncated(1, 2), 4).splitlines() == ["0 ###.", "1 ####", "2 .###", "3 ..##"]
    assert picture(Context.full(), 0) == ""
