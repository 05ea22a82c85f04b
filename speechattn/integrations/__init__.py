"""The encoder inside other toolkits: one file a toolkit. Import the one you need; this package imports none."""
