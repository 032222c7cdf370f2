"""What all tests share."""

import os

from hypothesis import settings

# A check that guards a submission must give the same answer twice; everywhere else new examples are tried.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
