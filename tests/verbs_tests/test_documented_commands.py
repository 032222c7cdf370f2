"""Every command that the documentation shows is one that the program takes."""

import os
import re
import shlex
from pathlib import Path

import pytest

import run_search

ROOT = Path(__file__).parents[2]
SHELL_WORDS = {"|", ">", "&", "&&", ";"}


def documented() -> list[str]:
    """Commands in the documentation, in examples of verbs, in configurations and in files for deployment."""
    paths = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("configs/*.toml"), *ROOT.glob("verbs/*.py")]
    paths += [path for path in ROOT.glob("deploy/*") if path.is_file()]
    found = set()
    for path in paths:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        # In running text a command stands between backticks, in blocks and comments it is the rest of its line.
        for ending in re.findall(r"python run_search\.py ([^\n`]*)", text):
            command = ending.split("  #")[0].strip(" .,)")
            # What closes the text in which a command is told.
            found.add(command.rstrip("'\"") if command.count('"') % 2 or command.count("'") % 2 else command)
    return sorted(command for command in found if command and not command.startswith(("VERB", "{")))


@pytest.mark.parametrize("command", documented())
def test_a_documented_command_is_understood(command: str) -> None:
    words = shlex.split(os.path.expandvars(command))
    words = words[: next((place for place, word in enumerate(words) if word in SHELL_WORDS), len(words))]
    # Of what it does not take, it tells and leaves.
    run_search._parser(words[0] if words[0] in run_search.VERBS else None).parse_args(words)
