"""Invented landscapes, and the files in which the DSTL competition would have published them."""
