"""Smaller files: rounded item vectors and weights, and the quantization cost."""
