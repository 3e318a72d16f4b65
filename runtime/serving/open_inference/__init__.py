"""The Open Inference Protocol beside the API of attnrec."""
