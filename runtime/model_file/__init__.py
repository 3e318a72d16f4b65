"""What a model file holds, how it is read, and why one is refused."""
