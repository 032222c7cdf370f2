"""The backend is chosen before any test module imports Keras."""

from pipeline.backend import use_backend

use_backend(num_threads=1)
