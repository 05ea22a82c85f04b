"""Compute the error rates of a saved CTC model on speech with transcripts, in LibriSpeech layout or a plain folder.

    python recipes/ctc/evaluate.py --model runs/ctc_phones/model --data DIR --subset NAME --json-out out.json

beam_search.py compares greedy decoding with beam search and an n-gram.
"""

import sys

from speechattn.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]], task="ctc"))
