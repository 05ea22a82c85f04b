"""Labels from transcripts alone: pronunciations, an acoustic model, and the times of phones and words."""
