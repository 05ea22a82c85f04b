"""Configuration, data preparation, loop, checkpoints, evaluation and report of a training run."""
