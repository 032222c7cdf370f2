"""Mapgrove's one command: `run_search.py VERB`. Each verb lives in its own file in `verbs/`."""

import argparse
import importlib
import logging
import signal
import sys
from collections.abc import Sequence

from verbs.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE

VERBS = {
    "demo": "Run the whole main job on a synthetic data set, in minutes",
    "prepare": "Turn imagery and labels into aligned cubes",
    "search": "Propose candidates (the master); --workers N also starts workers here",
    "worker": "Try candidates that a master proposed",
    "status": "Show how far a study is",
    "trials": "List the trials, best first; or export them",
    "show": "Show a trial, a recipe or a candidate's file: its network stage by stage, also as a picture",
    "show-space": "Draw the search space, or a study's, as a tree with ranges",
    "retrain": "Train the best architectures per class with a longer budget, into a model set",
    "predict": "Turn scenes into smooth masks and polygons",
    "score": "Score maps against labels: Jaccard per class, polygons one by one",
    "report": "Write a page that shows a study with its pictures",
    "doctor": "Check this machine, the study's data and its store, and say how to mend each",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: Words after the program's name; those of the process where None.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    verb = next((word for word in words if word in VERBS), "run_search.py")
    try:
        return _run(words)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stderr.write(f"\n{verb}: stopped. The same command goes on where it left off.\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; Python would complain again on closing.
        sys.stdout = None
        return EXIT_OK
    except OSError as error:
        if "--debug" in words:
            raise
        place = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"{verb}: {place}{error.strerror or error}. Check free space (df) and rights (ls -l).\n")
        return EXIT_FAILED


def _run(words: list[str]) -> int:
    options = _parser(next((word for word in words if word in VERBS), None)).parse_args(words)
    logging.basicConfig(level=logging.DEBUG if options.debug else logging.INFO, format="%(message)s", stream=sys.stderr)
    # GDAL tells of damaged files in words of its own, before the error that names the file.
    logging.getLogger("rasterio").setLevel(logging.DEBUG if options.debug else logging.CRITICAL)
    from search_space.errors import MapgroveError, UsageError

    try:
        return int(importlib.import_module(_module(options.verb)).run(options) or EXIT_OK)
    except MapgroveError as error:
        if options.debug:
            raise
        sys.stderr.write(f"{options.verb}: {error}\n")
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED


def _stop_on_hang_up() -> None:
    """A closed terminal and a polite `kill` end a verb as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser of all verbs; only the chosen one's file is imported, so that `--help` answers at once."""
    from verbs.parser import VERB, OneLineParser

    parser = OneLineParser(
        prog="run_search.py",
        description="Mapgrove grows a U-Net for every class on a map.",
        epilog="Each verb has its own help: run_search.py VERB --help",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    verbs = parser.add_subparsers(dest="verb", metavar=VERB, required=True, title="verbs")
    for name, summary in VERBS.items():
        verb = verbs.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == chosen:
            module = importlib.import_module(_module(name))
            verb.description = module.__doc__
            module.add_arguments(verb)
        verb.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def _module(verb: str) -> str:
    return f"verbs.{verb.replace('-', '_')}"


if __name__ == "__main__":
    _stop_on_hang_up()
    sys.exit(main())
