"""Training patches: where they lie, how they are turned and varied, and two ways of cutting them that agree."""
