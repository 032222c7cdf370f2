"""What the verbs share: how a study is named, opened and shown."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_space.decode import decode, encode
from search_space.errors import MapgroveError, UsageError
from search_space.study import Study
from search_space.study_file import read_study

if TYPE_CHECKING:
    from results.commands import StudyCommands
    from search_space.records import Split
    from trials_db.store import TrialStore

STUDY_FILE = "study.json"
MODELS, PREDICTIONS, SCORE_FILE = "models", "predictions", "score.json"
STORE_VARIABLE = "MAPGROVE_STORE"


def add_study(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add `--study`, `--set` and `--store`."""
    parser.add_argument(
        "--study", required=required, metavar="FILE|NAME", help="a TOML file, or the name of a study that was searched"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="assignments",
        help="replace a value of the file, such as limits.max_trials=40; may be repeated",
    )
    parser.add_argument(
        "--store", metavar="URL", help=f"the trial store, instead of the study's own (or ${STORE_VARIABLE})"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON for other programs to read")


def load_study(options: argparse.Namespace) -> Study:
    """Read the study that `--study` names: a TOML file, a study in the store, or one under `runs/`.

    Raises:
        MapgroveError: There is none, or `--set` was given for a study that is already fixed.
    """
    name = str(options.study)
    if name.endswith(".toml"):
        study = read_study(Path(name), options.assignments)
        store = store_option(options)
        return study.with_store(store) if store else study
    if options.assignments:
        raise UsageError("--set changes values of a study's file", received=name, remedy="Name its .toml file")
    return _searched_study(name, store_option(options))


def refuse_set_without_study(options: argparse.Namespace) -> None:
    """Where `--study` may be left out, `--set` then has nothing to change.

    Raises:
        UsageError: It was given nevertheless.
    """
    if options.study is None and options.assignments:
        raise UsageError("--set changes values of a study's file", remedy="Name it: --study FILE")


def open_study_store(study: Study, *, create: bool = False) -> "TrialStore":
    """Open the study's trial store."""
    from trials_db.opening import open_store

    return open_store(study.store_url, create=create)


def save_study(study: Study) -> None:
    """Keep the resolved study beside what it makes, so that it can be named without its file."""
    from pipeline.files import write_json

    plain = encode(study)
    # The URL of a store may hold a password; whoever needs it has it in the file or the environment.
    plain["study"]["store"] = "" if "@" in study.study.store else study.study.store
    write_json(study.folder / STUDY_FILE, plain)


def study_commands(study: Study, options: argparse.Namespace) -> "StudyCommands":
    """The command lines of other verbs for the study as it was named here."""
    from results.commands import StudyCommands

    words = [word for assignment in options.assignments for word in ("--set", assignment)]
    # The URL of a store may hold a password.
    if options.store and "@" not in options.store:
        words += ["--store", options.store]
    return StudyCommands(study, str(options.study), words)


def split_text(split: "Split") -> str:
    """How ground was split, as a table and the notes below it."""
    from results.splits import split_notes, split_table
    from results.text import render_table

    return "\n".join([render_table(split_table(split)), *split_notes(split)])


def at_least(least: int) -> Callable[[str], int]:
    """A whole number from `least`, as the type of an option."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least}, not {text!r}")
        return value

    return number


def say(text: str = "") -> None:
    """Print for the person at the terminal, at once."""
    print(text, flush=True)


def note(text: str) -> None:
    """Tell the person at the terminal what is no part of the output."""
    print(text, file=sys.stderr, flush=True)


def say_json(plain: Any) -> None:
    """Print plain data as JSON."""
    say(json.dumps(plain, indent=1))


def store_option(options: argparse.Namespace) -> str | None:
    """The store that was named on the command line or in the environment, None where none was."""
    return options.store or os.environ.get(STORE_VARIABLE) or None


def _searched_study(name: str, store_url: str | None) -> Study:
    if store_url:
        from trials_db.opening import open_store

        with open_store(store_url, create=False) as store:
            record = store.load_study(name)
        return decode(Study, record.settings, where=f"study {name}").with_store(store_url)
    path = Path("runs") / name / STUDY_FILE
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(each.parent.name for each in Path("runs").glob(f"*/{STUDY_FILE}"))
        raise MapgroveError(
            f"no study {name!r} under runs/ (known: {', '.join(known) or 'none'})",
            remedy="Name its .toml file, or its store by --store",
        ) from None
    except ValueError as error:
        raise MapgroveError(f"{path} is damaged ({error})", remedy="Name the study's .toml file") from None
    return decode(Study, plain, where=str(path))
