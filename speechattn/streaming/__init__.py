"""Labels of a live stream, and encoding of hours of audio."""
