"""The version of Mapgrove."""

VERSION = "0.1.0"

COMPATIBLE = ".".join(VERSION.split(".")[:2])
"""Versions that begin so train alike."""
