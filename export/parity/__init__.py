"""How a file is proved: it and the torch model answer the same requests."""
