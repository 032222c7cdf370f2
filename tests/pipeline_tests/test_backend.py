"""What Keras shall not import is hidden while it is imported, and only then."""

import importlib
import sys
from pathlib import Path

import pytest

from pipeline.backend import _hidden


def test_a_hidden_module_is_found_again_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "galleries.py").write_text("NAME = 'found'\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ImportError, match="galleries"), _hidden(["galleries"]):
        importlib.import_module("galleries")

    assert importlib.import_module("galleries").NAME == "found"
    monkeypatch.delitem(sys.modules, "galleries")


def test_what_is_loaded_already_stays() -> None:
    with _hidden(["json"]):
        assert importlib.import_module("json").dumps([]) == "[]"
