"""A phone-labelled corpus synthesized with espeak-ng."""
