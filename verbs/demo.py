"""Run the whole main job on a synthetic data set in the format of the DSTL competition, in a few minutes.

Every step is one verb, shown as the command a user would type. A second run goes on where the first stopped.

Example:
  python run_search.py demo
"""

import argparse
import importlib
import os
import shlex
import time
from pathlib import Path

from search_space.study_file import read_study
from verbs.common import at_least, say

CONFIG = Path(__file__).parents[1] / "configs" / "demo.toml"
NUM_SCENES, SIZE_PX = 8, 360
RETRAINED = ("buildings", "trees")
STEPS = (
    ("prepare",),
    ("search", "--workers", "2"),
    ("trials", "--top", "5"),
    ("retrain", "--classes", *RETRAINED),
    ("predict", "test"),
    ("score",),
    ("report",),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "--seed", type=at_least(0), default=11, metavar="N", help="of the synthetic landscape (default 11)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments", help="as in the other verbs"
    )


def run(options: argparse.Namespace) -> int:
    """Write the data set, then run verb after verb."""
    from pipeline.synthetic.scenes import write_synthetic_dstl

    study = read_study(CONFIG, options.assignments)
    settings = [word for assignment in options.assignments for word in ("--set", assignment)]
    started = time.monotonic()
    say(f"Writing a synthetic data set in the DSTL format to {study.data.folder}")
    write_synthetic_dstl(Path(study.data.folder), NUM_SCENES, SIZE_PX, options.seed)
    for verb, *words in STEPS:
        full = ["--study", os.path.relpath(CONFIG), *settings, *words]
        say(f"\n$ python run_search.py {shlex.join([verb, *full])}")
        if code := _run_verb(verb, full):
            return code
    say(f"\nDone in {time.monotonic() - started:.0f} s. Look at:")
    pictures = [*study.folder.glob("predictions/*/*.png"), *study.folder.glob("figures/*.png")]
    for path in [study.folder / "report.html", *sorted(pictures)]:
        say(f"  {path.resolve()}")
    return 0


def _run_verb(name: str, words: list[str]) -> int:
    verb = importlib.import_module(f"verbs.{name}")
    parser = argparse.ArgumentParser(prog=name)
    verb.add_arguments(parser)
    return int(verb.run(parser.parse_args(words)) or 0)
