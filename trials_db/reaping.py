"""Taking trials from workers that fell silent, without being misled by one's own silence."""

import time

from search_space.study import LONGEST_LEASE_S
from trials_db.stopping import AwakeGuard
from trials_db.store import TrialStore

MOST_OFTEN_S = 1.0
"""A thousand idle workers need not look five times a second."""


class Reaper:
    """Looks for trials whose worker fell silent, in the studies that a master or worker serves.

    Nothing is taken before this process has been awake, and in touch with the store, for a whole lease; and only what
    had run out before it made sure of that: however long the call itself is held up, nobody who renews meanwhile loses
    a trial.

    Args:
        store: Where the studies are.
    """

    def __init__(self, store: TrialStore) -> None:
        self._store = store
        self._guards: dict[str, AwakeGuard] = {}
        self._leases_s: dict[str, float] = {}
        self._look_at_s: dict[str, float] = {}

    def watch(self, study: str, lease_s: float) -> None:
        """Look after a study, whose workers may be silent for so long."""
        lease_s = min(lease_s, LONGEST_LEASE_S)
        self._guards[study] = AwakeGuard(lease_s)
        self._leases_s[study] = lease_s
        self._look_at_s[study] = 0.0

    def forget(self, study: str) -> None:
        """Look after a study no longer."""
        del self._guards[study], self._leases_s[study], self._look_at_s[study]

    def stay_awake(self) -> None:
        """Tell that this process is awake; call at least every quarter of a lease while nothing is looked for."""
        for guard in self._guards.values():
            guard.may_judge()

    def look(self, study: str) -> list[int]:
        """Take the trials of silent workers, if it is time again; return their numbers."""
        now_s = time.monotonic()
        if now_s < self._look_at_s[study]:
            self._guards[study].may_judge()
            return []
        self._look_at_s[study] = now_s + min(MOST_OFTEN_S, self._leases_s[study] / 10)
        # In this order: what held this process up before the guard is asked, the guard sees.
        at_s = self._store.now()
        self._guards[study].compare(at_s)
        return self._store.requeue_expired(study, at_s) if self._guards[study].may_judge() else []
