"""Runs over a range of settings: what accuracy and cost are at each context, as records and a table."""
