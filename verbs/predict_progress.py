"""How far a map is: a bar on a terminal, a line now and then elsewhere, both with the time that is left."""

import time
from collections.abc import Callable

from verbs.bars import Bar
from verbs.common import say

LINE_S = 30.0
"""Seconds between lines where there is no terminal; a map that is drawn in less gets none."""

_BAR = "  {desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left"


class MapProgress(Bar):
    """Shows the share of a map's tiles that is predicted; use in a `with` statement.

    Args:
        scene_id: What is mapped.
        clock: Tells seconds.
    """

    def __init__(self, scene_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(total=1.0, desc=scene_id, bar_format=_BAR, leave=False)
        self._scene_id = scene_id
        self._clock = clock
        self._begun: tuple[float, float] | None = None
        self._told_s = clock()

    def show(self, share: float) -> None:
        """Show that so much of the map is predicted, from 0 to 1."""
        now_s = self._clock()
        if self._begun is None:
            # What an earlier call had done took this one no time.
            self._begun = now_s, share
            self._bar.initial = share
        if not self._bar.disable:
            self._bar.update(share - self._bar.n)
        elif now_s - self._told_s >= LINE_S:
            self._told_s = now_s
            say(f"  {self._scene_id}: {share:.0%}{self._left(now_s, share)}")

    def _left(self, now_s: float, share: float) -> str:
        from results.phrases import duration_text

        begun_s, begun = self._begun or (now_s, share)
        if share <= begun:
            return ""
        return f", {duration_text((now_s - begun_s) * (1.0 - share) / (share - begun))} left"
