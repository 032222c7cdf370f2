"""How well single things are found, as a table and on the page."""

import numpy as np
import pytest

from results.report import report_html
from results.report_input import ReportInput
from results.scores import polygon_table, things_phrase
from results.text import render_table
from search_space.candidate import Candidate
from search_space.decode import decode, encode
from search_space.polygon_score import PolygonCounts, PolygonScore
from search_space.records import ClassMap, ModelMember, ModelSet, ScoreRecord


def thing_score(tp: int, fp: int, fn: int, truth: str = "polygons") -> PolygonScore:
    counts = PolygonCounts(tp=tp, fp=fp, fn=fn)
    return PolygonScore(
        f1=counts.f1,
        precision=counts.precision,
        recall=counts.recall,
        counts=counts,
        scenes={"north": counts},
        truth=truth,
    )


@pytest.fixture
def score() -> ScoreRecord:
    things = {"Buildings": thing_score(30, 10, 20), "Sheds": thing_score(0, 1, 0, "masks")}
    return ScoreRecord(fold="test", scenes=("north",), jaccard={"Buildings": 0.5, "Sheds": None}, polygons=things)


def test_the_table_tells_right_superfluous_and_missed(score):
    table = polygon_table(score).set_index("class")
    assert table.loc["Buildings"].tolist() == [60 / 90, 0.75, 0.6, 30, 10, 20]
    assert np.isnan(table.loc["Sheds", "f1"])
    assert table.loc["Sheds", "precision"] == 0
    lines = render_table(polygon_table(score)).splitlines()
    assert lines[0].split() == ["class", "F1", "precision", "recall", "right", "too", "many", "missed"]
    assert lines[2].split() == ["Buildings", "0.667", "0.750", "0.600", "30", "10", "20"]
    assert lines[3].split() == ["Sheds", "–", "0.000", "–", "0", "1", "0"]


def test_it_is_said_what_the_labels_are(score):
    assert things_phrase(score).endswith(
        "Labelled are of Buildings the labels' polygons; of Sheds connected places of the labels' masks, in which "
        "neighbours that touch are one."
    )
    one = score.model_copy(update={"polygons": {"Buildings": thing_score(1, 1, 1)}})
    assert things_phrase(one).endswith("Labelled are the labels' polygons.")
    assert things_phrase(one.model_copy(update={"polygons": {}})) == ""


def test_the_record_survives_its_file(score):
    assert decode(ScoreRecord, encode(score), where="t") == score
    assert encode(score)["polygons"]["Buildings"]["f1"] == pytest.approx(2 / 3)


def test_the_page_shows_it_where_things_were_told_apart(study, score):
    member = ModelMember(class_name="Buildings", file="b.keras", candidate=Candidate(), threshold=0.5)
    models = ModelSet(
        study="india",
        data_fingerprint="f",
        classes=("Buildings",),
        bands=("red",),
        members=(member,),
        maps=(ClassMap(class_name="Buildings", threshold=0.5),),
    )
    page = report_html(ReportInput(study, [], "f", models, score))
    assert "0.667" in page
    assert "shares more than half with a labelled one" in page
    plain = report_html(ReportInput(study, [], "f", models, score.model_copy(update={"polygons": {}})))
    assert "A single thing" not in plain
    assert "too many" not in plain
