"""Reading a study from its TOML file, with values set on the command line."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search_space.decode import decode
from search_space.errors import MalformedError, MapgroveError
from search_space.study import Study


def read_study(path: Path, assignments: Sequence[str] = ()) -> Study:
    """Read a study.

    Args:
        path: The TOML file.
        assignments: Values that replace the file's, each `a.b=value` with a TOML value; a bare word is a string.
            Keys that hold dots themselves are quoted: `space."plan.patch_px"={fix=64}`.

    Returns:
        The study with every default filled in.

    Raises:
        MapgroveError: The file is missing or no TOML, an unknown key, or a value that is not allowed.
    """
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MapgroveError(f"no study file {path}", remedy="Examples lie in configs/") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MapgroveError(f"{path} cannot be read as TOML ({error})") from None
    for assignment in assignments:
        _assign(plain, assignment)
    return decode(Study, plain, where=str(path))


def _assign(plain: dict[str, Any], assignment: str) -> None:
    key, equals, value = assignment.partition("=")
    if not equals or not key.strip():
        raise MalformedError(
            "--set takes KEY=VALUE", received=assignment, remedy="For example: --set limits.max_trials=40"
        )
    try:
        update = tomllib.loads(f"{key} = {value}")
    except tomllib.TOMLDecodeError:
        try:
            update = tomllib.loads(f"{key} = {_quoted(value)}")
        except tomllib.TOMLDecodeError as error:
            raise MalformedError(f"--set cannot be read as TOML ({error})", received=assignment) from None
    _merge(plain, update, assignment)


def _quoted(value: str) -> str:
    escaped = value.strip().replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _merge(plain: dict[str, Any], update: dict[str, Any], assignment: str) -> None:
    """Put the one leaf of `update` into `plain`; inner tables are walked only along the assigned key."""
    [(key, value)] = update.items()
    if isinstance(value, dict) and len(value) == 1 and isinstance(plain.get(key), dict):
        _merge(plain[key], value, assignment)
    else:
        plain[key] = value
