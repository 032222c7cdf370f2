"""The backend is chosen before any test module imports Keras; and tests find the helpers that lie beside them."""

import sys
from pathlib import Path

from pipeline.backend import use_backend

use_backend(num_threads=1)
sys.path.insert(0, str(Path(__file__).parent))
