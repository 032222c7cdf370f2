"""What prediction leaves of a scene: masks, polygons, single things, and their score."""
