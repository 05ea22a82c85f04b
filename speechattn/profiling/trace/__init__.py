"""Time and memory of one pass by layer, operator and tensor."""
