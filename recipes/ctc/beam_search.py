"""Compare greedy decoding with beam search, without and with an n-gram, on the held-out speech of a CTC run.

    python recipes/ctc/beam_search.py --run runs/ctc_phones
    python recipes/ctc/beam_search.py --run runs/ctc_phones --order 5 --ngram-weight 0.8 --ngram-out phones.arpa

The n-gram is estimated from the targets of the run's training utterances. It needs: pip install 'speechattn[ctc]'.
"""

import sys

from speechattn.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["beam-search", *sys.argv[1:]]))
