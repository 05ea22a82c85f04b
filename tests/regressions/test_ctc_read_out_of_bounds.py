"""A target that is no class made torch's CTC read, and with gradients write, outside its arrays: a crash much later.

A -100 that `target_lengths` counted by mistake was enough.
"""

from typing import Any

import pytest
import torch

from speechattn.models.heads import CTC


@pytest.mark.parametrize("target", [-100, 0, 5, 10**4])
def test_a_target_that_is_no_class_is_refused(target: Any) -> None:
    head = CTC(8, 5)
    log_probs, lengths = head(torch.randn(2, 10, 8)), torch.tensor([10, 10])
    targets = torch.tensor([[1, target], [3, 1]])
    with pytest.raises(ValueError, match=rf"from 1 to 4 .* got {target}\."):
        head.loss(log_probs, lengths, targets, torch.tensor([2, 2]))
    assert head.loss(log_probs, lengths, targets, torch.tensor([1, 2])).isfinite()
    with pytest.raises(ValueError, match="at most M = 2, got 3"):
        head.loss(log_probs, lengths, targets, torch.tensor([1, 3]))
