"""What of a log is trained on and what is held out, and batches of the former."""
