"""A model file behind HTTP. Needs the extra `attnrec[serve]`."""
