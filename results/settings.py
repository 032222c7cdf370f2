"""The settings by which two forms of a study differ, as a command line sets them."""

import json
import re
from collections.abc import Collection
from typing import Any

from search_space.decode import encode
from search_space.study import Study

OF_SEARCH = ("study.seed", "study.classes", "data", "folds", "budget", "limits", "search", "pruning", "space")
"""Settings on which the results of a search depend."""

OF_RETRAINING = ("study.seed", "folds", "limits.precision")
"""Settings on which every model of a retraining depends, beside its budget."""

NO_CHOICE = ("data.folder", "data.prepared", "search.found")
"""Settings that say where files are, or that the search fills in by itself."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def settings_set(wanted: Study, read: Study, among: Collection[str]) -> list[str]:
    """The words that make a study's file, as it is read, one with the settings that are wanted.

    Args:
        wanted: What a command is to work with.
        read: What it has without these words.
        among: Sections, or dotted keys of theirs, that count. Where files are does not.

    Returns:
        `--set KEY=VALUE` for each value that differs. A value that the file alone has cannot be unset.
    """
    there = encode(read)
    words = []
    for section, values in encode(wanted).items():
        for key, value in values.items():
            name = f"{section}.{key}"
            counts = (section in among or name in among) and name not in NO_CHOICE
            if counts and value is not None and value != there[section].get(key):
                words += ["--set", f"{section}.{_key(key)}={toml_text(value)}"]
    return words


def toml_text(value: Any) -> str:
    """A plain value as TOML, in one line."""
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {toml_text(each)}" for key, each in value.items() if each is not None)
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_text, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)
