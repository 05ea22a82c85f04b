"""Memory and time of encoders over the length of audio: `speechattn profile`, for a checkout that is not installed.

    python scripts/profile_memory.py --duration 10s 60s 10min --encoders truncated streaming full --out runs/profile

--help lists the options.
"""

from __future__ import annotations

import sys

from speechattn.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["profile", *sys.argv[1:]]))
