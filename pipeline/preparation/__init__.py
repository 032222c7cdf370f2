"""Scenes become cubes on disk: prepared once for a study, with what is known of their bands and their ground."""
