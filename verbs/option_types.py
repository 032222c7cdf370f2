"""What the value of an option may be, where it is no plain number."""

import argparse
import math
from collections.abc import Collection

MOST_NUMBERS = 1_000_000
"""Of no more trials a worker can be told."""


def gpu_numbers(text: str) -> list[str]:
    """Numbers of GPUs, such as 0,1,2,3."""
    found = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"must be numbers such as 0,1,2,3, each once, not {text!r}")
    return found


def duration_s(text: str) -> float:
    """A number of seconds from 0."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if seconds < 0.0 or not math.isfinite(seconds):
        raise argparse.ArgumentTypeError(f"must be a number of seconds from 0, not {text!r}")
    return seconds


def trial_numbers(text: str) -> frozenset[int]:
    """Numbers of trials and ranges of them, such as 3,5-9; `spelled_numbers` writes them."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        ends = (first, last) if dash else (first, first)
        if not all(end.isascii() and end.isdecimal() and len(end) < 10 for end in ends):
            raise argparse.ArgumentTypeError(f"must be numbers of trials such as 3,5-9, not {text!r}")
        low, high = map(int, ends)
        if high < low or len(found) + high - low >= MOST_NUMBERS:
            raise argparse.ArgumentTypeError(f"must be at most {MOST_NUMBERS} trials such as 3,5-9, not {text!r}")
        found.update(range(low, high + 1))
    return frozenset(found)


def spelled_numbers(numbers: Collection[int]) -> str:
    """Numbers as `trial_numbers` reads them, as short as may be."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
