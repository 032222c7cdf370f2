"""Mapgrove's one command: `run_search.py VERB`."""
