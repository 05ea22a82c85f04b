"""Files, locks, signals, processes and units: nothing about speech. Standard library and tqdm only."""
