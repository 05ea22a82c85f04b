"""An integration without its toolkit is an error of one line with the remedy; the package imports no toolkit."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from speechattn.errors import UserError, reason
from speechattn.integrations.requirements import needs

TOOLKITS = {
    "huggingface": ("transformers", "pip install transformers"),
    "hub": ("huggingface_hub", "pip install huggingface_hub"),
    "espnet": ("espnet2", "pip install espnet"),
    "nemo": ("nemo", r"pip install 'nemo_toolkit\[asr\]'"),
    "icefall": ("encoder_interface", "recipe's folder"),
}


@pytest.mark.parametrize("name", TOOLKITS)
def test_a_missing_toolkit_is_one_line_with_the_remedy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit, remedy = TOOLKITS[name]
    for module in [module for module in sys.modules if module == toolkit or module.startswith(f"{toolkit}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, toolkit, None)  # an import of it raises ImportError
    monkeypatch.delitem(sys.modules, f"speechattn.integrations.{name}", raising=False)
    with pytest.raises(UserError, match=remedy) as caught:
        importlib.import_module(f"speechattn.integrations.{name}")
    assert toolkit in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [ImportError("no"), OSError("libcudart.so"), RuntimeError("torch\nand more")])
def test_every_error_of_a_toolkit_becomes_one_line(error: Exception) -> None:
    message = rf"needs Kit, .* \({re.escape(reason(error))}\)\. Install it\."
    with pytest.raises(UserError, match=message), needs("Kit", "Install it."):
        raise error


def test_the_package_imports_no_toolkit() -> None:
    program = (
        "import sys, speechattn.integrations\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert ran.stdout == "[]\n", ran.stderr
