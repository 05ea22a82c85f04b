"""One file a command of `speechattn`: its options, and what is checked before torch is imported for the work."""
