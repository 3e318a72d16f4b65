"""From a file of events to `Interactions`."""
