"""An adapter without its toolkit is one line that says what to install, and the folder alone imports nothing."""

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


@pytest.mark.parametrize("adapter", TOOLKITS)
def test_a_missing_toolkit_is_one_line_with_the_remedy(adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit, remedy = TOOLKITS[adapter]
    for name in [name for name in sys.modules if name == toolkit or name.startswith(f"{toolkit}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, toolkit, None)  # what Python takes for "not to be imported"
    monkeypatch.delitem(sys.modules, f"speechattn.integrations.{adapter}", raising=False)
    with pytest.raises(UserError, match=remedy) as caught:
        importlib.import_module(f"speechattn.integrations.{adapter}")
    assert toolkit in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [ImportError("no"), OSError("libcudart.so"), RuntimeError("torch\nand more")])
def test_every_way_a_toolkit_fails_is_told(error: Exception) -> None:
    said = rf"needs Kit, .* \({re.escape(reason(error))}\)\. Install it\."
    with pytest.raises(UserError, match=said), needs("Kit", "Install it."):
        raise error


def test_the_folder_imports_nothing_by_itself() -> None:
    program = (
        "import sys, speechattn.integrations\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert ran.stdout == "[]\n", ran.stderr
