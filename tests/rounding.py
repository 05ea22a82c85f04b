"""Comparisons of two computations of the same numbers, up to rounding.

Sums of floats are not equal bit for bit: their order depends on processor, shape, threads and alignment. Tensors that
are only copied are compared with torch.equal, and so is a resumed run on one machine with the same number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
"""Largest difference, as a part of the largest value or of 1: units in the last place of sums of products.

A missing frame, or padding that is read, makes a far larger difference.
"""
CERTAIN = 1e-4
"""Difference of the two best logits above which rounding cannot change the label."""


def assert_same(found: Tensor | Sequence[Tensor], expected: Tensor | Sequence[Tensor]) -> None:
    """Fail where tensors differ by more than rounding, or in shape, dtype, or in where they hold NaN."""
    if not isinstance(found, Tensor):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
        return
    assert isinstance(expected, Tensor)
    finite = expected.detach()[expected.detach().isfinite()]
    largest = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING[found.dtype] * largest, equal_nan=True)


def assert_same_weights(found: nn.Module, expected: nn.Module) -> None:
    """Fail where a weight or a saved buffer, which are only copied, differs in any bit."""
    copies, originals = found.state_dict(), expected.state_dict()
    assert copies.keys() == originals.keys()
    assert [name for name in originals if not torch.equal(copies[name], originals[name])] == []


def assert_labels(names: Sequence[str], logits: Tensor, classes: Sequence[str]) -> None:
    """Fail where a label [T] is not that of the largest logit [T, C], unless rounding decides between two."""
    assert len(names) == len(logits)
    best, indices = logits.topk(2)
    certain = best[:, 0] - best[:, 1] > CERTAIN
    assert not len(names) or certain.float().mean() > 0.9, "too few labels are certain for a comparison"
    wrong = [
        (frame, name, classes[index])
        for frame, (name, index) in enumerate(zip(names, indices[:, 0].tolist(), strict=True))
        if certain[frame] and name != classes[index]
    ]
    assert not wrong, f"(frame, found, expected): {wrong[:10]}"
