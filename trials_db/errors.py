"""What can go wrong between a study and its store."""

import re

from search_space.errors import MapgroveError


class StoreError(MapgroveError):
    """The trial store cannot be reached, read or written."""


class StoreFullError(StoreError):
    """There is no room for what was to be written; nothing was."""


class DamagedError(StoreError):
    """A document of the store is not as this version writes it."""


class StudyNotFoundError(StoreError):
    """The store holds no study of this name."""


class StudyConflictError(StoreError):
    """A study of this name exists with another space, data set, seed or other settings."""


class LeaseLostError(StoreError):
    """The lease ran out and someone else holds what it stood for: whoever lost it may not write any more."""


class ArtifactError(StoreError):
    """A large file cannot be kept or fetched; no trial fails of it."""


class WorkerError(MapgroveError):
    """A worker cannot train at all, whatever the trial; the trial was handed back."""


class NoRoomError(WorkerError):
    """The disk of the trials' folder is full; the trial was handed back."""


def mask_url(url: str) -> str:
    """Return `url` with passwords and tokens replaced by `***`, fit for logs and errors."""
    # Greedy up to the last @: an unescaped @ or / inside a password must not show its tail.
    masked = re.sub(r"(://[^:@/?]*):.*@", r"\1:***@", url)
    return re.sub(r"(?i)([?&][^=&]*(?:password|token|secret|authmechanismproperties)[^=&]*=)[^&]*", r"\1***", masked)
