"""`import speechattn` and its first attention took a second and a half longer than torch itself.

torch.compiler's decorators import torch's whole compiler when they are applied: one that marked two functions of
attention/native/attention.py was enough. The mark is set by hand now, and the backends that use others are imported
on request.
"""

import subprocess
import sys

PROBE = """
import sys, torch, speechattn
before = "torch._dynamo" in sys.modules
x = torch.zeros(1, 1, 5, 8)
speechattn.attention(x, x, x, speechattn.Context.truncated(1, 1))
assert before or "torch._dynamo" not in sys.modules
"""


def test_attention_does_not_import_the_compiler() -> None:
    subprocess.run([sys.executable, "-c", PROBE], check=True, timeout=300)
