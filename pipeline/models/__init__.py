"""Trained models: their files, sets of them with all that a prediction needs, and starting from them."""
