"""Times of phones and words from recordings and their transcripts alone."""
