"""Reading a study from its TOML file, with values set on the command line."""

import copy
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search_space.decode import decode
from search_space.errors import MalformedError, MalformedFileError, UsageError
from search_space.names import RETRAINING, is_retraining
from search_space.study import Study

EXAMPLES = Path(__file__).parents[1] / "configs"


def read_study(path: Path, assignments: Sequence[str] = ()) -> Study:
    """Read a study.

    Args:
        path: The TOML file.
        assignments: Values that replace the file's, each `a.b=value` with a TOML value; a bare word is a string.
            Keys that hold dots themselves are quoted: `space."plan.patch_px"={fix=64}`.

    Returns:
        The study with every default filled in.

    Raises:
        UsageError: An assignment that cannot be meant; or the file is missing or no TOML, an unknown key, or a value
            that is not allowed.
    """
    plain = _read_toml(path)
    changed = copy.deepcopy(plain)
    for assignment in assignments:
        _assign(changed, assignment)
    try:
        study = decode(Study, changed, where=f"{path} with --set" if assignments else str(path))
    except MalformedError as error:
        raise MalformedFileError(error.what, received=error.received, remedy=error.remedy) from None
    if is_retraining(study.name):
        raise UsageError(
            f"a study's name does not end in {RETRAINING}: `retrain` makes those that do",
            received=study.name,
            remedy="Give it another study.name",
        )
    return study


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no study file {path}", remedy=f"Examples lie in {EXAMPLES}/") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as TOML ({error})", remedy="Mend what it names") from None


def _assign(plain: dict[str, Any], assignment: str) -> None:
    key, equals, value = assignment.partition("=")
    path = _key_path(key)
    if not equals or not path:
        raise UsageError(
            "--set takes KEY=VALUE, the key's parts joined by dots, those with dots or brackets in quotes",
            received=assignment,
            remedy="For example: --set limits.max_trials=40",
        )
    node = plain
    for part in path[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise UsageError(f"--set: {part!r} is a value, not a table", received=assignment)
    node[path[-1]] = _value(value, assignment)


def _key_path(key: str) -> list[str]:
    """The parts of a dotted TOML key, quoted parts whole; none where it is no key."""
    try:
        node: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return []
    path = []
    while isinstance(node, dict):
        if len(node) != 1:
            return []
        [(part, node)] = node.items()
        path.append(part)
    return path


def _value(text: str, assignment: str) -> Any:
    """A TOML value; what is none is a bare word, unless it begins like a list, a table or quoted text."""
    try:
        [value] = tomllib.loads(f"value = {text}").values()
    except ValueError:
        if text.lstrip().startswith(("[", "{", '"', "'")):
            raise UsageError(
                "--set: the value is no TOML",
                received=assignment,
                remedy="Keep its quotes from the shell, as in --set 'data.classes=[\"road\"]'",
            ) from None
        return text.strip()
    return value
