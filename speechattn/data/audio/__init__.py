"""Sound files to mono float32 samples."""
