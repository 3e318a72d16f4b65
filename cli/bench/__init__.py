"""`attnrec bench`: time, memory and size of model files on this machine."""
