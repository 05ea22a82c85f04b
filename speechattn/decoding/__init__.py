<<<<<<< HEAD
"""Logits to labels."""
=======
"""Logits of frames to labels: smoothing and search. Needs no model."""
>>>>>>> label
