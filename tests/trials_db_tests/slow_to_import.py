"""As a framework is: importing it takes long. It tells of itself in the file that SLOW_IMPORT names."""

import os
import time
from pathlib import Path

Path(os.environ["SLOW_IMPORT"]).touch()
time.sleep(120)
