"""Proof of a file: it and the torch model answer the same requests."""
