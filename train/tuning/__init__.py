"""Search for settings: many trainings, the best of which becomes the run."""
