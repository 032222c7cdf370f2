"""The parser of the command line, which tells what cannot be meant in one line: what, received, remedy."""

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from search_space.errors import UsageError, did_you_mean, nearest
from verbs.exit_codes import EXIT_USAGE

VERB = "VERB"


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are a line each, without the usage that `--help` shows."""

    def __init__(self, *words: Any, **settings: Any) -> None:
        # What is abbreviated today may mean another option tomorrow.
        super().__init__(*words, **{"allow_abbrev": False, **settings})

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As argparse does, but a verb refuses by itself the words that it does not know: it knows its options."""
        found, left = super().parse_known_args(args, namespace)
        if left:
            self._refuse(self._unknown(left))
        return found, left

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong, and leave."""
        for pattern, told in self._wordings():
            if match := re.fullmatch(pattern, message):
                self._refuse(told(*match.groups()))
        self._refuse(UsageError(message, remedy=self._help))

    def _refuse(self, error: UsageError) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog.rpartition(' ')[2]}: {error}\n")

    def _wordings(self) -> list[tuple[str, Callable[..., UsageError]]]:
        """What argparse says, and what is said instead."""
        return [
            (r"the following arguments are required: (.*)", self._missing),
            (rf"argument {VERB}: invalid choice: ['\"](.*)['\"] \(choose from (.*)\)", self._no_verb),
            (r"argument (\S+): invalid choice: ['\"](.*)['\"] \(choose from (.*)\)", self._no_choice),
            (r"argument (\S+): expected .*", self._no_value),
            (r"argument (\S+): not allowed with argument (\S+)", self._not_both),
            (r"argument (\S+): invalid int value: ['\"](.*)['\"]", self._no_number),
            (r"argument (\S+): (must .*), not ['\"](.*)['\"]", self._not_fitting),
            (r"argument (\S+): ignored explicit argument ['\"](.*)['\"]", self._needless_value),
        ]

    @property
    def _help(self) -> str:
        return f"`python {self.prog} --help` lists what there is"

    def _unknown(self, left: Sequence[str]) -> UsageError:
        options = [word for word in left if word.startswith("-")]
        if not options:
            return UsageError("there is no use for what follows", received=" ".join(left), remedy=self._help)
        near = nearest(options[0].partition("=")[0], self._option_string_actions)
        return UsageError(
            "there is no such option", received=options[0], remedy=f"Did you mean {near}?" if near else self._help
        )

    def _missing(self, names: str) -> UsageError:
        if names == VERB:
            return UsageError("a verb is missing", remedy=self._help)
        wanted = [self._spelled(name) for name in names.split(", ")]
        are = "is" if len(wanted) == 1 else "are"
        return UsageError(f"{' and '.join(names.split(', '))} {are} missing", remedy=f"Add {' '.join(wanted)}")

    def _spelled(self, name: str) -> str:
        """An option with what follows it, such as `--study FILE|NAME`; a bare word as it is."""
        action = self._option_string_actions.get(name)
        follows = action.metavar if action is not None and isinstance(action.metavar, str) else ""
        return f"{name} {follows}".strip()

    def _no_verb(self, word: str, known: str) -> UsageError:
        return UsageError("there is no such verb", received=word, remedy=did_you_mean(word, _unquoted(known)))

    def _no_choice(self, name: str, word: str, known: str) -> UsageError:
        near = nearest(word, _unquoted(known))
        return UsageError(
            f"{name} must be one of {', '.join(_unquoted(known))}",
            received=word,
            remedy=f"Did you mean {near!r}?" if near else self._help,
        )

    def _no_value(self, name: str) -> UsageError:
        return UsageError(f"{name} needs a value", remedy=f"Write {self._spelled(name)}")

    def _not_both(self, name: str, other: str) -> UsageError:
        return UsageError(f"{other} and {name} cannot be meant together", remedy="Leave one of them out")

    def _no_number(self, name: str, word: str) -> UsageError:
        return UsageError(f"{name} must be a whole number", received=word, remedy=f"Write {self._spelled(name)}")

    def _not_fitting(self, name: str, rule: str, word: str) -> UsageError:
        return UsageError(f"{name} {rule}", received=word, remedy=f"Write {self._spelled(name)}")

    def _needless_value(self, name: str, word: str) -> UsageError:
        return UsageError(f"{name} takes no value", received=word, remedy=f"Write {name}")


def _unquoted(known: str) -> list[str]:
    return re.findall(r"'([^']*)'", known)
