"""What the verbs share: how a study is named, opened and shown."""

import argparse
import fnmatch
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from search_space.decode import decode, encode
from search_space.errors import MapgroveError, UsageError
from search_space.names import CLASS_STUDIES, is_retraining, searched_name, usual_folder
from search_space.study import Study
from search_space.study_file import read_study

if TYPE_CHECKING:
    from results.commands import StudyCommands
    from search_space.records import Split
    from trials_db.artifacts import Artifacts
    from trials_db.store import TrialStore

STUDY_FILE = "study.json"
MODELS, PREDICTIONS, SCORE_FILE = "models", "predictions", "score.json"
STORE_VARIABLE = "MAPGROVE_STORE"


def add_study(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add `--study`, `--set` and `--store`."""
    parser.add_argument(
        "--study", required=required, metavar="FILE|NAME", help="a TOML file, or the name of a study that was searched"
    )
    _add_set_and_store(parser)


def add_studies(parser: argparse.ArgumentParser) -> None:
    """Add `--study`, which may be repeated and name several, `--set` and `--store`."""
    parser.add_argument(
        "--study",
        required=True,
        action="append",
        metavar="FILE|NAME",
        dest="studies",
        help="a TOML file, or the name of a study that was searched; 'dstl/*' for the studies of its single classes; "
        "may be repeated",
    )
    _add_set_and_store(parser)


def _add_set_and_store(parser: argparse.ArgumentParser) -> None:
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
    if is_pattern(name):
        raise UsageError("one study is wanted here", received=name, remedy="`status` tells which there are")
    if name.endswith(".toml"):
        return _in_store(read_study(Path(name), options.assignments), options)
    _refuse_set(name, options)
    return _searched_study(name, store_option(options))


class NamedStudies(NamedTuple):
    """What several `--study` name.

    Attributes:
        store_url: The store that holds them all.
        names: Of studies; some may be patterns.
        from_files: What the files say that were named, by the study's name.
    """

    store_url: str
    names: list[str]
    from_files: dict[str, Study]


def load_studies(options: argparse.Namespace) -> NamedStudies:
    """Read what `--study`, as `add_studies` has it, names.

    Raises:
        MapgroveError: See `load_study`; or they are in different stores.
    """
    given = store_option(options)
    stores, names, from_files = [], [], {}
    for name in options.studies:
        if name.endswith(".toml"):
            study = _in_store(read_study(Path(name), options.assignments), options)
            names.append(study.name)
            from_files[study.name] = study
            stores.append(study.store_url)
        else:
            _refuse_set(name, options)
            names.append(name)
            stores.append(given or _own_store(name))
        if stores[-1] != stores[0]:
            raise UsageError("the studies are in different stores", received=name, remedy="Run a command for each")
    return NamedStudies(stores[0], names, from_files)


def open_named(studies: NamedStudies) -> "TrialStore":
    """Open the store of what `load_studies` read."""
    from trials_db.opening import open_store

    return open_store(studies.store_url, create=False)


def is_pattern(name: str) -> bool:
    """Whether a name stands for all studies that it matches, as in a shell."""
    return any(mark in name for mark in "*?[")


def matching(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The studies that some names and patterns mean, in the store's order; a name is one whether it is there or not."""
    wanted = [name for name in names if not is_pattern(name) and name not in known]
    return wanted + [each for each in known if any(fnmatch.fnmatchcase(each, name) for name in names)]


def _in_store(study: Study, options: argparse.Namespace) -> Study:
    store = store_option(options)
    return study.with_store(store) if store else study


def _refuse_set(name: str, options: argparse.Namespace) -> None:
    if options.assignments:
        whole, _, class_name = name.partition("/")
        remedy = (
            f"Name that of {whole}, with --one-vs-all --classes {class_name}" if class_name else "Name its .toml file"
        )
        raise UsageError("--set changes values of a study's file", received=name, remedy=remedy)


def refuse_retraining(study: Study) -> None:
    """Refuse a study that `retrain` made, where one is wanted that is searched.

    Raises:
        UsageError: It is one.
    """
    if is_retraining(study.name):
        raise UsageError(
            "a retraining is wanted by the name of its study",
            received=study.name,
            remedy=f"Name {searched_name(study.name)}",
        )


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


def open_study_artifacts(study: Study) -> "Artifacts":
    """Open where the large files of the study's trials are."""
    from trials_db.opening import open_artifacts

    return open_artifacts(study.study.artifacts, study.store_url)


def check_folder(study: Study) -> None:
    """Refuse a folder that another study writes to: the trials of both have the same numbers.

    Raises:
        MapgroveError: It is another's.
    """
    try:
        owner = json.loads((study.folder / STUDY_FILE).read_text(encoding="utf-8"))["study"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if owner != study.name:
        raise MapgroveError(
            f"{study.folder} is the folder of the study {owner!r}",
            received=study.name,
            remedy="Name another study.folder, or leave it out",
        )


def save_study(study: Study) -> None:
    """Keep the resolved study beside what it makes, so that it can be named without its file."""
    from pipeline.files import write_json
    from trials_db.errors import mask_url

    plain = encode(study)
    # The URL of a store may hold a password; whoever needs it has it in the file or the environment.
    plain["study"]["store"] = mask_url(study.study.store)
    write_json(study.folder / STUDY_FILE, plain)


def settled_software(study: Study, store: "TrialStore") -> dict[str, str]:
    """What the losses of a study depend on beside its settings.

    A precision that is left to the hardware is settled by the machine on which the study begins; a retraining computes
    as the search did.
    """
    from pipeline.backend import software

    searched = searched_name(study.name)
    if study.limits.precision == "auto" and searched in store.list_studies():
        study = study.in_precision(store.load_study(searched).software.get("precision", "float32"))
    return software(study.limits.precision)


def study_commands(study: Study, options: argparse.Namespace) -> "StudyCommands":
    """The command lines of other verbs for the study as it was named here."""
    from results.commands import StudyCommands

    words = [word for assignment in options.assignments for word in ("--set", assignment)]
    # The URL of a store may hold a password.
    if options.store and "@" not in options.store:
        words += ["--store", options.store]
    return StudyCommands(study, str(options.study), words)


def checked_classes(study: Study, wished: Sequence[str] | None) -> list[str]:
    """The classes that an option named, all of the study where it was not given.

    Raises:
        UsageError: The study has none of a name.
    """
    for name in wished or ():
        if name not in study.classes:
            raise UsageError("no such class in the study", received=name, remedy=f"Classes: {', '.join(study.classes)}")
    return list(dict.fromkeys(wished or study.classes))


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


def _own_store(name: str) -> str:
    """The store of a study of this name, or of those that a pattern such as 'dstl/*' means."""
    whole = name.partition("/")[0]
    if is_pattern(whole):
        raise UsageError("a pattern needs a store to look in", received=name, remedy=f"--store, or ${STORE_VARIABLE}")
    return _searched_study(whole if is_pattern(name) else name, None).store_url


def _searched_study(name: str, store_url: str | None) -> Study:
    if store_url:
        from trials_db.opening import open_store

        with open_store(store_url, create=False) as store:
            record = store.load_study(name)
        return decode(Study, record.settings, where=f"study {name}").with_store(store_url)
    path = usual_folder(name) / STUDY_FILE
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(each.parent.name for each in Path("runs").glob(f"*/{STUDY_FILE}"))
        known += [
            f"{each.parents[2].name}/{each.parent.name}"
            for each in Path("runs").glob(f"*/{CLASS_STUDIES}/*/{STUDY_FILE}")
        ]
        raise MapgroveError(
            f"no study {name!r} under runs/ (known: {', '.join(known) or 'none'})",
            remedy="Name its .toml file, or its store by --store",
        ) from None
    except ValueError as error:
        raise MapgroveError(f"{path} is damaged ({error})", remedy="Name the study's .toml file") from None
    study = decode(Study, plain, where=str(path))
    if "***" in study.study.store:
        raise MapgroveError(
            "the URL of the study's store holds a password, so it is not kept",
            received=study.study.store,
            remedy=f"Name the study's .toml file, or set ${STORE_VARIABLE}",
        )
    return study
