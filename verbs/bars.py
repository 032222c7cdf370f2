"""A bar on a terminal, for work that takes its time; nothing elsewhere, where lines are written instead."""

import logging
import sys
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self


class Bar:
    """What shows progress by a bar; use in a `with` statement.

    Args:
        **options: Those of tqdm.
    """

    def __init__(self, **options: Any) -> None:
        from tqdm import tqdm
        from tqdm.contrib.logging import logging_redirect_tqdm

        self._bar = tqdm(disable=not sys.stdout.isatty(), file=sys.stdout, dynamic_ncols=True, **options)
        self._stack = ExitStack()
        if not self._bar.disable:
            # What is logged goes above the bar, not into it.
            self._stack.enter_context(logging_redirect_tqdm([logging.getLogger()], tqdm_class=tqdm))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
        self._bar.close()
