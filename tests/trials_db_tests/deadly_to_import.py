"""As a framework is on a processor that it was not built for: importing it ends the process."""

import os
import signal

os.kill(os.getpid(), signal.SIGILL)
