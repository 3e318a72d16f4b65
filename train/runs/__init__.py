"""Run directories: train one, save it, load it, train it again on all events."""
