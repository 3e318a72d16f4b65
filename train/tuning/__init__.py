"""Search for settings, and training for fewer bits."""
