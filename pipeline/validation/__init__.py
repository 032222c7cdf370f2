"""How well a network does on held-out ground, at every threshold."""
