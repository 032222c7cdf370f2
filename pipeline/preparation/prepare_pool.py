"""Scenes prepared one after the other in this process, or several at a time in processes of their own."""

import logging
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue

import cv2
import psutil

from pipeline.datasets.table import open_dataset
from pipeline.preparation.prepare_scene import ScenePlan, State, prepare_scene
from pipeline.preparation.prepared import SceneRecord, SourceFile
from pipeline.preparation.prepared_folder import FullDiskError, remove_partial
from pipeline.scene import DataError
from search_space.errors import MapgroveError
from search_space.study import DataSettings

PROCESS_MB, UNPACKED = 400, 10
"""A process needs so much, and a scene so many times the size of its files, which may be compressed."""

WORTH_MB = 100
"""Less imagery than that is read before further processes have started."""

MEMORY_SHARE = 0.7

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class SceneOutcome:
    """How the preparation of one scene ended.

    Attributes:
        scene_id: Which one.
        state: What became of it.
        record: What the manifest says of it; None where it failed.
        reason: Why it failed; empty otherwise.
        messages: Logged meanwhile in another process: logger, level, text.
    """

    scene_id: str
    state: State | None
    record: SceneRecord | None = None
    reason: str = ""
    messages: list[tuple[str, int, str]] = field(default_factory=list)


def sensible_jobs(plan: ScenePlan) -> int:
    """How many scenes at a time this machine carries: by its cores, its free memory, and what there is to do."""
    sizes = [
        sum(_size_bytes(path) for path in _known_sources(plan, scene_id)) / 1e6 for scene_id in plan.adapter.scene_ids
    ]
    if sum(sizes) < WORTH_MB:
        return 1
    free_mb = psutil.virtual_memory().available / 1e6
    fit = int(MEMORY_SHARE * free_mb / (PROCESS_MB + UNPACKED * max(sizes)))
    return max(1, min(len(os.sched_getaffinity(0)), fit, len(sizes)))


def _known_sources(plan: ScenePlan, scene_id: str) -> tuple[Path, ...]:
    """None of a scene that lacks a file: it will be told with its reason when its turn comes."""
    with suppress(MapgroveError, OSError):
        return plan.adapter.sources(scene_id, plan.needed)
    return ()


def _size_bytes(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def prepare_scenes(plan: ScenePlan, folder: Path, jobs: int) -> Generator[SceneOutcome, None, None]:
    """Prepare all scenes of a data set.

    Closing the iterator, or an error in whoever reads it, stops everything at once and leaves whole scenes only.

    Args:
        plan: What is made of each.
        folder: Of the prepared data set.
        jobs: How many at a time; 1 stays in this process.

    Yields:
        One outcome per scene, in the order in which they end.

    Raises:
        FullDiskError: No later scene would fare better.
        DataError: A process was killed from outside, mostly for want of memory.
    """
    jobs = min(jobs, _to_be_made(plan, folder)) if jobs > 1 else 1
    if jobs > 1:
        yield from _in_processes(plan, folder, jobs)
    else:
        for scene_id in plan.adapter.scene_ids:
            yield _outcome(plan, scene_id, folder)


def _to_be_made(plan: ScenePlan, folder: Path) -> int:
    """Scenes that do not look finished. Other processes take seconds to start, too long for looking at files alone."""
    return sum(not plan.looks_finished(name, folder) for name in plan.adapter.scene_ids)


def _outcome(plan: ScenePlan, scene_id: str, folder: Path) -> SceneOutcome:
    try:
        record, state = prepare_scene(plan, scene_id, folder)
    except FullDiskError:
        raise
    except (MapgroveError, OSError, MemoryError) as error:
        return SceneOutcome(scene_id, None, reason=str(error) or type(error).__name__)
    return SceneOutcome(scene_id, state, record)


def _in_processes(plan: ScenePlan, folder: Path, jobs: int) -> Generator[SceneOutcome, None, None]:
    _hash_shared(plan)
    waiting = list(reversed(plan.adapter.scene_ids))
    running: dict[Future[SceneOutcome], str] = {}
    # Waiting for it is the one place where a signal can come between: an interrupted `wait` keeps the futures' locks.
    ended: SimpleQueue[Future[SceneOutcome]] = SimpleQueue()
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    order = _Order(plan.settings, plan.needed, plan.hashes, folder, logging.getLogger().getEffectiveLevel())
    executor = ProcessPoolExecutor(jobs, context, _start, (order,))
    try:
        while waiting or running:
            # No more than there are processes: so what is under way is known, should one of them be killed.
            with _signals_held():
                while waiting and len(running) < jobs:
                    scene_id = waiting.pop()
                    future = executor.submit(_prepare_in_process, scene_id)
                    running[future] = scene_id
                    future.add_done_callback(ended.put)
            future = ended.get()
            with _signals_held():
                outcome = future.result()
                del running[future]
            for name, level, text in outcome.messages:
                logging.getLogger(name).log(level, "%s", text)
            yield outcome
    except BrokenProcessPool as error:
        with _signals_held():
            names = sorted(name for future, name in running.items() if not _is_done(future))
        raise _killed(names) from error
    finally:
        with _signals_held():
            _end(executor, set(multiprocessing.active_children()) - before if running else set())
            for scene_id in running.values():
                remove_partial(folder / scene_id)


def _hash_shared(plan: ScenePlan) -> None:
    """Files that several scenes share would else be read once in every process."""
    uses = Counter(path for name in plan.adapter.scene_ids for path in _known_sources(plan, name))
    for path, count in uses.items():
        if count > 1:
            # One that cannot be read is told with the scenes that need it.
            with suppress(OSError):
                plan.source(path)


def _end(executor: ProcessPoolExecutor, unfinished: set[BaseProcess]) -> None:
    """Let idle processes go; end those that are at work."""
    for process in unfinished:
        # They write beside a scene's place, and hold polite signals back.
        process.kill()
    executor.shutdown(wait=True, cancel_futures=True)


def _is_done(future: Future[SceneOutcome]) -> bool:
    return future.done() and future.exception() is None


def _killed(scene_ids: list[str]) -> DataError:
    return DataError(
        f"A process was killed while it prepared {' or '.join(scene_ids)}, mostly for want of memory",
        remedy="Run prepare again with --jobs 1; finished scenes are kept",
    )


@contextmanager
def _signals_held() -> Iterator[None]:
    """Nothing in the block is interrupted: what is asked meanwhile happens at its end.

    Processes that are started in it never see Ctrl-C, which reaches all at once: it is the first that ends them. That
    is what the mask is for; it does not keep the main thread from being interrupted, as a signal that one thread holds
    back goes to another, and Python then runs the handler in the main thread all the same.
    """
    asked: list[int] = []
    ours = threading.current_thread() is threading.main_thread()
    handlers = {each: found for each in STOP_SIGNALS if ours and callable(found := signal.getsignal(each))}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        for each in handlers:
            signal.signal(each, lambda number, _: asked.append(number))
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for each, handler in handlers.items():
            signal.signal(each, handler)
        if asked:
            signal.raise_signal(asked[0])


@dataclass(frozen=True)
class _Order:
    """What a process must know."""

    settings: DataSettings
    needed: tuple[str, ...]
    hashes: dict[Path, SourceFile]
    folder: Path
    log_level: int


class _Worker:
    """The state of a process that prepares scenes.

    Args:
        order: From the first process.
    """

    def __init__(self, order: _Order) -> None:
        self.order = order
        self._plan: ScenePlan | None = None

    def plan(self) -> ScenePlan:
        """Made with the first scene, so that what goes wrong is that scene's reason."""
        if self._plan is None:
            # The first process has told all that is to be told of the data set as a whole.
            logging.disable(logging.CRITICAL)
            try:
                settings = self.order.settings.model_copy(update={"grid": "native"})
                plan = ScenePlan.make(settings, open_dataset(settings))
            finally:
                logging.disable(logging.NOTSET)
            self._plan = replace(
                plan, settings=self.order.settings, needed=self.order.needed, hashes=dict(self.order.hashes)
            )
        return self._plan


class _Messages(logging.Handler):
    """Keeps what is logged, for the first process to tell."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append((record.name, record.levelno, record.getMessage()))


_worker: _Worker | None = None
_messages = _Messages()


def _start(order: _Order) -> None:
    """Runs first in every process."""
    global _worker
    _worker = _Worker(order)
    root = logging.getLogger()
    root.setLevel(order.log_level)
    root.addHandler(_messages)
    # GDAL tells of damaged files in words of its own, before the error that names the file.
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)
    cv2.setNumThreads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """However the first process ends: nobody else would stop this one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _prepare_in_process(scene_id: str) -> SceneOutcome:
    if _worker is None:
        raise RuntimeError("a process that prepares scenes was not told what to make")
    _messages.kept.clear()
    try:
        outcome = _outcome(_worker.plan(), scene_id, _worker.order.folder)
    except FullDiskError:
        raise
    except (MapgroveError, OSError) as error:
        # The data set itself has changed meanwhile.
        outcome = SceneOutcome(scene_id, None, reason=str(error))
    return replace(outcome, messages=list(_messages.kept))
