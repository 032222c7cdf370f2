"""What all tests share."""

import os
import signal

from hypothesis import settings

# A check that guards a submission must give the same answer twice; everywhere else new examples are tried.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        # In the background Ctrl-C is ignored, under `nohup` a closed terminal, and by every process started from there:
        # but not what has a handler, even one that does nothing.
        signal.signal(number, lambda *_: None)
