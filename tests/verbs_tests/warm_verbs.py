"""Verbs as processes of their own that start in no time: forked from one that has imported all that they need.

Each line that it reads is JSON: `words`, of the command after its program; `folder`, in which it runs; `environment`;
and `said`, the file for all that it says. It answers with the exit code.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "run_search.py"
IMPORTED = (
    "pipeline.preload",
    "pipeline.maps.scene_maps",
    "pipeline.models.model_set",
    "results.report",
    "verbs.search",
    "tests.verbs_tests.warm_workers",
)
MOST_WORKERS = {"search": 2, "retrain": 1}


class WarmVerbs:
    """The test's end: runs verbs one after the other. Workers that these start are warm as well; see `warm_workers`."""

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate()

    def run(self, words: list[str], folder: Path) -> tuple[int, str]:
        """Run one verb in a folder; return its exit code, and all that it says."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        said = folder / "said.txt"
        order = {"words": words, "folder": str(folder), "environment": dict(os.environ), "said": str(said)}
        try:
            self._process.stdin.write(f"{json.dumps(order)}\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
        except BaseException:
            # The answer to a test that ran out of time must not reach the next one.
            self._process.kill()
            self._process.communicate()
            self._start()
            raise
        told = said.read_text(encoding="utf-8")
        said.unlink()
        return code, told

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )


def main() -> None:
    """Import, then fork for every line."""
    sys.path.insert(0, str(ROOT))
    for name in IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            run(order)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"{code}\n")
        sys.stdout.flush()


def run(order: dict[str, Any]) -> NoReturn:
    """Become what `python run_search.py WORDS` is."""
    from tests.verbs_tests.warm_workers import become, keep_spares

    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    out = os.open(order["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, there in enumerate((nothing, out, out)):
        os.dup2(there, number)
    keep_spares(MOST_WORKERS.get(order["words"][0], 0))
    become([str(PROGRAM), *order["words"]])


if __name__ == "__main__":
    main()
