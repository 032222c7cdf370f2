"""From imagery to scored maps: cubes, patches, models, training, prediction, polygons, score."""
