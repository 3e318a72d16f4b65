"""Parts of models: attention, time bias, losses. Torch alone."""
