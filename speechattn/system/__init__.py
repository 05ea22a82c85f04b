"""Files, locks, signals, processes, units and text tables: nothing about speech. Standard library and tqdm only."""
