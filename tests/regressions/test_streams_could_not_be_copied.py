"""A stream holds a lock, so neither copy.deepcopy nor pickle took one: no process could hand it on."""

import copy
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import torch

import speechattn as sa


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda stream: ForkingPickler.loads(ForkingPickler.dumps(stream))])
def test_a_copy_of_a_stream_goes_on_as_the_stream_does(copied: Any) -> None:
    samples = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    stream = sa.Stream(sa.load_pretrained("small-en-phones"))
    stream.push(samples[:4000], 16000)
    other = copied(stream)
    assert [other.push(samples[4000:], 16000), other.flush()] == [stream.push(samples[4000:], 16000), stream.flush()]


def test_a_stream_that_resamples_is_not_copied() -> None:
    stream = sa.Stream(sa.load_pretrained("small-en-phones"))
    stream.push(torch.zeros(4000), 8000)
    with pytest.raises(TypeError, match="resamples cannot be copied"):
        copy.deepcopy(stream)
