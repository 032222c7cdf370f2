"""What `report` makes of a study of which something is damaged."""

from pathlib import Path

import pytest

import run_search
from search_space.decode import encode
from search_space.study import Study
from search_space.study_file import read_study
from trials_db.opening import open_store
from trials_db.records import StudyRecord

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "demo.toml"


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of which the store knows settings and no trial, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    study = read_study(DEMO, ["limits.max_trials=30"])
    with open_store(study.store_url, create=True) as store:
        store.open_study(
            StudyRecord(
                name=study.name,
                settings=encode(study.with_store("")),
                space_fingerprint="",
                data_fingerprint="f00d",
                seed=study.study.seed,
            ),
            (),
        )
    return study


def report(study: Study, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What the verb tells, and the page that it writes."""
    assert run_search.main(["report", "--study", str(DEMO)]) == run_search.EXIT_OK
    told = capsys.readouterr()
    return told.out + told.err, (study.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("damage", ["", "[1, 2", "{}", '{"study": 3}'])
@pytest.mark.parametrize("name", ["models/model_set.json", "predictions/a/map.json"])
def test_a_damaged_file_is_told_on_the_console_and_on_the_page_and_the_rest_is_shown(
    name: str, damage: str, searched: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    path = searched.folder / name
    path.parent.mkdir(parents=True)
    path.write_text(damage, encoding="utf-8")

    told, page = report(searched, capsys)

    for text in (told, page):
        assert f"{path} is damaged, or not of this version, and is left out: " in text
    assert "Do it again" in page
    assert f"Report: {searched.folder}/report.html" in told


def test_a_damaged_score_leaves_the_models_on_the_page(
    searched: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (searched.folder / "models").mkdir(parents=True)
    (searched.folder / "models" / "model_set.json").write_text(
        '{"study": "demo", "data_fingerprint": "f00d", "classes": ["trees"], "bands": ["red"]}', encoding="utf-8"
    )
    for damage in ("{", '{"fold": "test"}'):
        (searched.folder / "score.json").write_text(damage, encoding="utf-8")

        told, page = report(searched, capsys)

        for text in (told, page):
            assert f"{searched.folder}/score.json is damaged" in text
            assert "Run `score` again" in text
            assert "model_set.json is damaged" not in text


def test_the_commands_set_what_the_search_was_told_beyond_its_file(
    searched: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    _, page = report(searched, capsys)

    assert f"search --study {DEMO} --set limits.max_trials=30 --workers 2" in page
