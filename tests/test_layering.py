"""Which room may import what: read from the source, so that a forbidden import fails before it runs."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("search_space", "smoothing", "trials_db", "pipeline", "results", "verbs")

HEAVY = {"keras", "tensorflow", "jax", "torch"}
GEOSPATIAL = {"rasterio", "shapely", "tifffile", "pyogrio"}
ALLOWED_ROOMS = {
    "search_space": set(),
    "smoothing": set(),
    "trials_db": {"search_space"},
    "pipeline": {"search_space", "smoothing"},
    "results": {"search_space", "trials_db"},
    "verbs": set(ROOMS),
}
FORBIDDEN_PACKAGES = {
    "search_space": HEAVY | GEOSPATIAL | {"numpy", "scipy", "pymongo", "pandas"},
    "smoothing": HEAVY | GEOSPATIAL | {"hyperopt", "pymongo", "pydantic"},
    "trials_db": HEAVY | GEOSPATIAL,
    "pipeline": {"hyperopt", "pymongo", "tensorflow", "jax", "torch"},
    "results": HEAVY | GEOSPATIAL | {"hyperopt", "pymongo"},
    "verbs": HEAVY,
}


# What lies within the pipeline, in the order in which imagery passes it: everything may import what stands before it.
STATIONS = (
    "scene",
    "files",
    "backend",
    "imagery",
    "datasets",
    "synthetic",
    "preparation",
    "folds",
    "networks",
    "patches",
    "study_data",
    "validation",
    "models",
    "training",
    "maps",
    "objective",
    "retrain_objective",
    "preload",
)


def imports(source: str) -> set[str]:
    """Dotted names of everything imported, at any depth of the code."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def violations(room: str, source: str) -> list[str]:
    """Imports that `room` may not have."""
    wrong = []
    for name in sorted(imports(source)):
        top = name.split(".")[0]
        if top in ROOMS and top != room and top not in ALLOWED_ROOMS[room]:
            wrong.append(f"{room} may not import the room {name}")
        if top in FORBIDDEN_PACKAGES[room]:
            wrong.append(f"{room} may not import {name}")
    return wrong


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def module_graph() -> dict[str, set[str]]:
    """Module to the modules of the project that it imports, at any depth of the code."""
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for room in ROOMS
        for path in sources(room)
    }
    return {
        name: {each for each in imports(path.read_text(encoding="utf-8")) if each in names}
        for name, path in names.items()
    }


def cycle(graph: dict[str, set[str]]) -> list[str] | None:
    """Some circular chain of imports, None where there is none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        for other in sorted(graph[name]):
            if found := visit(other, [*path, name]):
                return found
        done.add(name)
        return None

    return next((found for name in graph if (found := visit(name, []))), None)


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_imports_what_it_may_not(room: str) -> None:
    files = sources(room)
    assert files, f"the room {room} is empty"

    wrong = [
        f"{path.relative_to(ROOT)}: {each}"
        for path in files
        for each in violations(room, path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("room", "planted"),
    [
        ("search_space", "import numpy as np"),
        ("search_space", "from pipeline.scene import Scene"),
        ("smoothing", "def f():\n    from search_space.errors import MapgroveError"),
        ("trials_db", "import keras.layers"),
        ("pipeline", "from hyperopt import hp"),
        ("pipeline", "import trials_db.store"),
        ("pipeline", "import tensorflow as tf"),
        ("results", "from pipeline.maps.scoring import score_masks"),
    ],
)
def test_a_planted_forbidden_import_is_found(room: str, planted: str) -> None:
    assert violations(room, planted)


def test_no_imports_go_in_circles() -> None:
    assert cycle(module_graph()) is None


def test_a_planted_circle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]


def late_imports(graph: dict[str, set[str]]) -> list[str]:
    """Imports within the pipeline of what imagery passes later."""
    return [
        f"{name} may not import {other}"
        for name, others in sorted(graph.items())
        for other in sorted(others)
        if name.startswith("pipeline.") and other.startswith("pipeline.")
        if STATIONS.index(name.split(".")[1]) < STATIONS.index(other.split(".")[1])
    ]


def test_no_station_of_the_pipeline_imports_a_later_one() -> None:
    assert not late_imports(module_graph())


def test_every_station_of_the_pipeline_is_there() -> None:
    found = {
        path.stem for path in (ROOT / "pipeline").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }

    assert found - {"__init__"} == set(STATIONS)


def test_a_planted_late_import_is_found() -> None:
    assert late_imports({"pipeline.folds.folds": {"pipeline.training.train"}})


def test_only_the_backend_choice_names_a_framework() -> None:
    framework = {"tensorflow", "jax", "torch"}
    named = [
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in sources(room)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in framework
    ]
    assert set(named) <= {"pipeline/backend.py"}
