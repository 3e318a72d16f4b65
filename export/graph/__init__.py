"""How a graph is built: the body from torch, raw ids in and out, the item table, top-k."""
