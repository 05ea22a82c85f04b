"""Truncated attention by torch's fused kernels, flex_attention and Triton."""
