"""`python -m speechattn`: the same as the command `speechattn`."""

from __future__ import annotations

import sys

from speechattn.cli.main import main

sys.exit(main())
