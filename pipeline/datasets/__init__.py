"""Adapters: each knows one way in which imagery and labels lie on disk."""
