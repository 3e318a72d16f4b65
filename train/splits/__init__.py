"""The division of a log into training events, in batches, and held-out events."""
