"""Memory and time of encoders over the length of audio: `speechattn profile`, for who has the tree and no install.

    python scripts/profile_memory.py --seconds 10 60 600 --encoders truncated streaming full --out runs/profile

--help tells the options.
"""

from __future__ import annotations

import sys

from speechattn.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["profile", *sys.argv[1:]]))
