"""Every public name is the same object, with its signature and help, whatever was imported before it."""

import copy
import inspect
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler

import pytest

import speechattn as sa

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


def test_attention_is_the_function_in_every_order_of_imports():
    done = subprocess.run([sys.executable, "-c", IN_EACH_ORDER, *ORDERS], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""


@pytest.mark.parametrize("name", sa.__all__)
def test_a_public_name_has_a_signature_a_docstring_and_a_pickle(name):
    value = getattr(sa, name)
    if not (isinstance(value, type) and issubclass(value, Exception)):  # Python gives those of errors no signature
        kinds = {parameter.kind for parameter in inspect.signature(value).parameters.values()}
        assert not kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    assert inspect.getdoc(value)
    assert ForkingPickler.loads(ForkingPickler.dumps(value)) is value is copy.deepcopy(value) is getattr(sa, name)
    assert name in dir(sa)
