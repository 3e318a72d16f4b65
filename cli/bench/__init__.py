"""`attnrec-bench`: what model files cost on this machine."""
