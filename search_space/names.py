"""Text that a study gives: what may be a name, as names become folders, files and words on pages."""

import re
import unicodedata
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from search_space.decode import ListAsTuple

MAX_CHARACTERS, MAX_BYTES = 100, 200
"""A file's name holds 255 bytes, and names get endings."""

RETRAINING = "@retrain"
"""Ends the name of the study whose trials are the trainings of a retraining: `dstl@retrain`, `dstl/road@retrain`."""

CLASS_STUDIES = "classes"
"""In a study's folder: those of the studies of its single classes."""

RETRAINING_FOLDER = "retrain"
"""In a study's folder: that of its retraining."""


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is named twice")
    return names


def study_name(name: str) -> str:
    """Return what may name a study; raise `ValueError` for what may not."""
    whole, of_class, class_name = searched_name(name).partition("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", whole) or len(whole) > MAX_CHARACTERS:
        raise ValueError(
            "must start with a letter or digit (A-Z, a-z, 0-9), go on with these, `.`, `_` or `-`, "
            f"and have at most {MAX_CHARACTERS} characters; `/` and a class may follow"
        )
    if of_class:
        _class_name(class_name)
    return name


def is_retraining(name: str) -> bool:
    """Whether a name is that of a retraining."""
    return name.endswith(RETRAINING)


def retraining_name(name: str) -> str:
    """The name of a study's retraining."""
    return f"{name}{RETRAINING}"


def searched_name(name: str) -> str:
    """The name of the study that a retraining belongs to; any other name as it is."""
    return name.removesuffix(RETRAINING)


def usual_folder(name: str) -> Path:
    """Where a study of this name writes, unless it says otherwise: `runs/dstl`, `runs/dstl/classes/road/retrain`."""
    whole, of_class, class_name = searched_name(name).partition("/")
    folder = Path("runs", whole, CLASS_STUDIES, class_name) if of_class else Path("runs", whole)
    return folder / RETRAINING_FOLDER if is_retraining(name) else folder


def _class_name(name: str) -> str:
    if name.lower().endswith((".json", ".md")):
        raise ValueError("must not end in .json or .md, as the files beside its models do")
    if not (name and _starts_name(name[0]) and all(map(_continues_name, name[1:])) and _ends_name(name)):
        raise ValueError(
            "must start with a letter, digit or `_`, go on with these, spaces and `.-+&()`, not end in a space or dot, "
            f"and have at most {MAX_CHARACTERS} characters ({MAX_BYTES} bytes)"
        )
    return name


def _starts_name(character: str) -> bool:
    return character.isalnum() or character == "_"


def _continues_name(character: str) -> bool:
    # Many scripts write vowels and accents as marks, which are no letters of their own.
    return _starts_name(character) or character in " .-+&()" or unicodedata.category(character).startswith("M")


def _ends_name(name: str) -> bool:
    return name[-1] not in " ." and len(name) <= MAX_CHARACTERS and len(name.encode()) <= MAX_BYTES


Text = Annotated[str, AfterValidator(_text)]
"""Text that is not blank."""

StudyName = Annotated[str, AfterValidator(study_name)]
"""A name that is a folder's, and is typed on command lines: ASCII letters, digits, `.`, `_` and `-`; for one of the
studies of single classes, followed by `/` and the class; and for what `retrain` makes of either, by `@retrain`."""

ClassName = Annotated[str, AfterValidator(_class_name)]
"""A name in any script, fit for a folder's and a file's."""

Names = Annotated[tuple[Text, ...], ListAsTuple, AfterValidator(_distinct)]
"""Different names, none of them blank."""

ClassNames = Annotated[tuple[ClassName, ...], ListAsTuple, AfterValidator(_distinct)]
"""Different names of classes."""
