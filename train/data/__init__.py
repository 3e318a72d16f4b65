"""From a file of events to `Interactions`, to a `Split`, to batches. Needs no torch but in batches."""
