"""A model file: its format, how it is read, and why one is refused."""
