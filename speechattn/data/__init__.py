"""Files to utterances, labels and batches."""
