"""Importing this module imports the framework and all that training needs.

A worker names it to the process from which its trials are forked, so that each starts warm.
"""

import gc

from pipeline.backend import use_backend
from search_space.errors import MapgroveError

try:
    use_backend()
except MapgroveError as error:
    # The forking process passes over what it cannot import; the trial then tells what is wrong.
    raise ImportError(str(error)) from error

import pipeline.study_data
import pipeline.training.train  # noqa: F401

# Nothing of this is ever garbage: trials need not look through it again and again, nor copy its pages by doing so.
gc.freeze()
