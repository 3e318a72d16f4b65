"""The Open Inference Protocol in addition to the API of attnrec."""
