"""The command line as `python -m speechattn`."""

from __future__ import annotations

import sys

from speechattn.cli.main import main

sys.exit(main())
