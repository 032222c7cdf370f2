"""What was tried: the trial stores, and the master and workers that fill them."""
