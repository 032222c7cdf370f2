"""Scenes become cubes on disk: prepared once for all studies of them, with what is known of bands and ground."""
