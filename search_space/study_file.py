"""Reading a study from its TOML file, with values set on the command line."""

import json
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
    path = _key_path(key, assignment)
    try:
        parsed = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        parsed = tomllib.loads(f"value = {_quoted(value)}")
    node = plain
    for part in path[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise MalformedError(f"--set: {part!r} is a value, not a table", received=assignment)
    node[path[-1]] = parsed["value"]


def _key_path(key: str, assignment: str) -> list[str]:
    """The parts of a dotted TOML key, quoted parts whole."""
    try:
        node: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError as error:
        raise MalformedError(f"--set: the key cannot be read as TOML ({error})", received=assignment) from None
    path = []
    while isinstance(node, dict):
        [(part, node)] = node.items()
        path.append(part)
    return path


def _quoted(value: str) -> str:
    return json.dumps(value.strip())
