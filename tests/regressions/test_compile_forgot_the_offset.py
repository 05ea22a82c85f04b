"""Compiled attention read the wrong frames: 4.0 off, or NaN, and no error.

attention/banded/attention.py cut its windows with `as_strided`, whose offset counts from the start of the storage.
torch.compile guards
sizes and strides but no offset, so the views of another head, row or projection were cut where those of the first
call had been. (Without the explicit offset, inductor was wrong all the same.) Windows are slices and unfolds now.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from speechattn import Context, attention

CONTEXTS = (Context.truncated(5, 3), Context.chunked(8, left=16, right=2))


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """No compiled code from or for another test."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore")  # torch talks about its own graph breaks
@pytest.mark.parametrize("context", CONTEXTS, ids=str)
def test_compiled_attention_is_the_same_for_views_of_any_offset(context: Context) -> None:
    def of_projection(packed: torch.Tensor) -> torch.Tensor:
        q, k, v = packed.unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)  # type: ignore[no-untyped-call]
        return attention(q, k, v, context)

    compiled = torch.compile(of_projection, backend="eager")
    with torch.no_grad():
        for batch_size in (1, 2):
            packed = torch.randn(batch_size, 70, 48)
            torch.testing.assert_close(compiled(packed), of_projection(packed))
