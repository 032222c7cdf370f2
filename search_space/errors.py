"""The errors that every room raises for its user.

A user sees one line: what is wrong, what was received, and what to do about it.
"""

import difflib
from collections.abc import Iterable


class MapgroveError(Exception):
    """Something the user can mend.

    Args:
        what: The rule that was broken, as a statement without a full stop.
        received: The offending value; shown with `repr`, shortened. Leave out where there is none.
        remedy: What to do, as an imperative without a full stop.
    """

    def __init__(self, what: str, *, received: object = None, remedy: str = "") -> None:
        self.what = what
        self.received = received
        self.remedy = remedy
        parts = [what]
        if received is not None:
            text = repr(received)
            parts.append(f"Received {text if len(text) <= 160 else text[:157] + '...'}")
        if remedy:
            parts.append(remedy)
        super().__init__(" ".join(_sentence(part) for part in parts))

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross process borders, and `Exception` alone forgets keyword arguments."""
        return (_rebuild, (type(self), self.what, self.received, self.remedy))


def _sentence(text: str) -> str:
    line = " ".join(text.split())
    return line if line.endswith((".", "?", "!")) else f"{line}."


def _rebuild(kind: type[MapgroveError], what: str, received: object, remedy: str) -> MapgroveError:
    return kind(what, received=received, remedy=remedy)


class UsageError(MapgroveError):
    """What was typed on the command line cannot be meant; programs end with exit code 2."""


class MalformedError(MapgroveError):
    """Plain data that does not describe the object it should: an unknown key or a wrong type."""


class MalformedFileError(MalformedError, UsageError):
    """A file that the user wrote does not describe what it should; programs end with exit code 2."""


class InfeasibleError(MapgroveError):
    """A well-formed candidate from which no model can be built or trained within the limits."""


class UnableError(MapgroveError):
    """No trial can run here now: the machine's or the data's fault, not the candidate's."""


def nearest(word: str, known: Iterable[str], likeness: float = 0.5) -> str:
    """The known name most like a word, whatever its case; empty where none is like it."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), list(names), n=1, cutoff=likeness)
    return names[near[0]] if near else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Remedy for an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    if near := nearest(word, names):
        return f"Did you mean {near!r}?"
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"Known are: {shown}" if names else "There are none"


_MEMORY_ERRORS = ("MemoryError", "ResourceExhaustedError", "OutOfMemoryError")

_MEMORY_WORDS = (
    "RESOURCE_EXHAUSTED",  # JAX, which has one class for everything the accelerator refuses
    "OUT_OF_MEMORY",  # CUDA's driver, through whichever framework
    "ALLOC_FAILED",  # cuBLAS and cuDNN, which PyTorch tells as a RuntimeError
    "Dst tensor is not initialized",  # TensorFlow, where there is no room on the GPU for what is copied there
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine or its accelerator had no memory left; known by name, without importing a framework."""
    names = [each.__name__ for each in type(error).__mro__]
    text = str(error)
    return any(name in _MEMORY_ERRORS for name in names) or any(words in text for words in _MEMORY_WORDS)
