"""The verbs of `run_search.py`, one file each: they wire rooms together and hold no logic of their own."""
