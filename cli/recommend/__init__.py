"""`attnrec recommend`: ask a model file, for one person or for everybody."""
