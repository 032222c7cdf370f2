"""Blending of overlapping tile predictions into one smooth map: arrays in, arrays out."""
