"""From a file of events to `Interactions`, to a `Split`, to batches."""
