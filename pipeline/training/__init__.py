"""A candidate and patches become the best model of a budget."""
