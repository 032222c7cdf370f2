"""Bands of any size and place onto one grid, indices of them, polygons drawn on it, images read and written."""
