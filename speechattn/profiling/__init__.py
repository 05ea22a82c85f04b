"""Time and memory over sequence length, measured in separate processes."""
