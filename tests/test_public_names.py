"""Every public name is the same object, with its signature and help, whatever was imported before it."""

import copy
import inspect
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest

import speechattn as sa
from speechattn.data.labels.segments import Alignment, Segment

ENCODER = sa.EncoderConfig(8, d_model=4, num_heads=2, num_layers=1, context=sa.Context(2, 1))
MODEL = sa.SpeechModel(sa.ModelConfig(("A", "B"), ENCODER, num_mels=8)).eval()
ORDERS = (
    "import speechattn as sa; sa.attention",
    "import speechattn as sa; sa.Encoder",
    "import speechattn.attention.masks, speechattn as sa",
    "import speechattn.attention.functional; import speechattn as sa",
    "from speechattn import attention; import speechattn as sa",
    "from speechattn.attention import masks; import speechattn as sa",
    "import speechattn.attention; import speechattn as sa",
)
IN_EACH_ORDER = """
import inspect, os, sys, types
import torch

for order in sys.argv[1:]:
    child = os.fork()  # torch is imported once
    if not child:
        exec(order)
        from speechattn import attention
        from speechattn.attention import functional
        from speechattn.encoder import self_attention
        import speechattn.attention
        assert type(attention) is types.FunctionType
        assert attention is sa.attention is speechattn.attention is functional.attention
        assert "context" in inspect.signature(sa.attention).parameters
        assert self_attention.SelfAttention is sa.SelfAttention
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, order
"""


def test_attention_is_the_function_in_every_order_of_imports() -> None:
    done = subprocess.run([sys.executable, "-c", IN_EACH_ORDER, *ORDERS], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""


@pytest.mark.parametrize("name", sa.__all__)
def test_a_public_name_has_a_signature_a_docstring_and_a_pickle(name: Any) -> None:
    value = getattr(sa, name)
    if not (isinstance(value, type) and issubclass(value, Exception)):  # Python gives those of errors no signature
        kinds = {parameter.kind for parameter in inspect.signature(value).parameters.values()}
        assert not kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    assert inspect.getdoc(value)
    assert ForkingPickler.loads(ForkingPickler.dumps(value)) is value is copy.deepcopy(value) is getattr(sa, name)
    assert name in dir(sa)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sa.plan, "use sa.estimate"),
        (lambda: sa.Plan, "use sa.Estimate"),
        (lambda: sa.longest_frames, "use sa.max_frames"),
        (lambda: sa.adapters, "use sa.integrations"),
        (lambda: Segment(0.0, 1.0, "a").start, "use start_s"),  # type: ignore[attr-defined]
        (lambda: Segment(start=0.0, stop_s=1.0, label="a"), "use start_s="),  # type: ignore[call-arg]
        (lambda: Alignment([], stop=1.0), "use stop_s="),  # type: ignore[call-arg]
        (lambda: sa.small_model, r'use sa.load_pretrained\("small-en-phones"\)'),
        (lambda: sa.Context.causal(3).reach(5), "use receptive_field"),  # type: ignore[attr-defined]
        (lambda: sa.Context.causal(3).plan(5, 2), "use schedule"),  # type: ignore[attr-defined]
        (lambda: MODEL.stream(), r"use sa.Stream\(model\)"),  # type: ignore[operator]
        (lambda: sa.Stream(MODEL).latency_ms, "use algorithmic_latency_ms"),  # type: ignore[attr-defined]
        (lambda: sa.Stream(MODEL, nan="zero"), "use nan_policy="),  # type: ignore[call-arg]
        (lambda: sa.EncoderConfig(8, execution="dense"), "use backend="),  # type: ignore[call-arg]
        (lambda: sa.EncoderConfig(8, scores="relu"), "use activation="),  # type: ignore[call-arg]
        (lambda: sa.EncoderConfig(8, positions="rotary"), "use position_encoding="),  # type: ignore[call-arg]
    ],
)
def test_an_old_name_fails_with_the_new_one(call: Any, message: Any) -> None:
    with pytest.raises((AttributeError, TypeError), match=message):
        call()


@pytest.mark.parametrize("old", ["execution", "scores", "positions"])
def test_an_old_setting_in_json_fails_with_the_new_one(old: Any) -> None:
    new = {"execution": "backend", "scores": "activation", "positions": "position_encoding"}[old]
    data = {"classes": ["A", "B"], "encoder": {"input_dim": 80, old: "x"}}
    with pytest.raises(sa.ConfigError, match=f"encoder has no setting '{old}': use '{new}'"):
        sa.ModelConfig.from_dict(data)
