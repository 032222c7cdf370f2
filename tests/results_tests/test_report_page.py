import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from results.figure_files import left_out_line, write_figures
from results.page import PictureError
from results.report import report_html, write_report
from results.report_input import ReportInput
from results.scores import independence_phrase, model_table, score_table, thresholds_phrase, validated_phrase
from results.text import render_table
from search_space.candidate import Candidate
from search_space.decode import decode, encode
from search_space.errors import MalformedError
from search_space.objective import EpochReport
from search_space.records import (
    ClassMap,
    Counts,
    FoldJaccard,
    FoldShares,
    ModelMember,
    ModelSet,
    ScoredGround,
    ScoreRecord,
    Split,
)

VOID = {"meta", "img", "source", "br"}


class Page(HTMLParser):
    """Checks that every element is closed in order; gathers text, tags and sources."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.words, self.images, self.links = [], [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "srcset"):
                self.images.append(value)
            if name == "href":
                self.links.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def models():
    reports = tuple(EpochReport(epoch=n, training_loss=1 / n, jaccard={"Water": 0.5}) for n in (1, 2, 3))
    members = (
        ModelMember(
            class_name="Water",
            file="Water.keras",
            candidate=Candidate(),
            threshold=0.35,
            trial=7,
            validation_jaccard=0.8125,
            reports=reports,
            figures={"num_parameters": 4321.0},
        ),
        ModelMember(class_name="Roads", file="Roads.keras", candidate=Candidate(), threshold=0.5),
    )
    maps = (
        ClassMap(class_name="Water", threshold=0.35, jaccard=0.8125, spread=None),
        ClassMap(class_name="Roads", threshold=0.5),
    )
    return ModelSet(
        study="india",
        data_fingerprint="f00d",
        classes=("Water", "Buildings", "Roads"),
        bands=("red",),
        members=members,
        maps=maps,
    )


@pytest.fixture
def ensembles(models):
    """Two folds of two seeds of one class, and one model of another class with the study's own split."""
    water, roads = models.members
    budget = {"epochs": 40, "steps_per_epoch": 30}
    members = [
        water.model_copy(update={"file": f"{fold}{seed}", "fold": fold, "num_folds": 3, "seed": seed, **budget})
        for fold in (1, 2)
        for seed in (0, 1)
    ]
    folds = tuple(FoldJaccard(fold=fold, jaccard=0.5 + fold / 10, num_models=2) for fold in (1, 2))
    maps = (
        ClassMap(
            class_name="Water",
            threshold=0.375,
            threshold_from="folds",
            jaccard=0.65,
            score_from="other folds",
            folds=folds,
            spread=0.0625,
            spread_over="folds",
            absent_folds=(3,),
        ),
        models.maps[1],
    )
    return models.model_copy(update={"members": (*members, roads), "maps": maps})


@pytest.fixture
def score():
    return ScoreRecord(
        fold="test",
        scenes=("scene_04",),
        jaccard={"Water": 0.625, "Roads": None},
        counts={"Water": Counts(tp=5, fp=1, fn=2)},
        mean_jaccard=0.625,
        rule="Pixels without a label do not count.",
    )


def test_the_full_page_is_well_formed_and_needs_no_other_file(tmp_path, study, trials, models, score):
    picture = tmp_path / "map.png"
    cv2.imwrite(str(picture), np.zeros((4, 4, 3), np.uint8))
    given = ReportInput(study, trials, "f00d", models, score, [(picture, "scene_04")], "configs/india.toml", made_s=0.0)
    path = write_report(tmp_path / "out" / "report.html", given)
    page = Page(path.read_text(encoding="utf-8"))
    assert list(path.parent.iterdir()) == [path]
    assert page.links == []
    assert "script" not in page.tags
    for image in page.images:
        head, _, content = image.partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(content, validate=True).startswith(b"\x89PNG")
    assert "1 January 1970" in page.text.replace("01 ", "1 ")
    for words in ("0.625", "held-out test scenes", "0.812", "0.35", "Pixels without a label", "trial 32"):
        assert words in page.text
    assert "warning" not in path.read_text(encoding="utf-8").split("</style>")[1]


@pytest.mark.parametrize("count", [0, 1, 3, 9])
def test_a_young_study_says_what_to_do_next(study, trials, count):
    page = Page(report_html(ReportInput(study, trials[:count], config_file="my study.toml")))
    step = "retrain --study 'my study.toml'" if count else "search --study 'my study.toml' --workers 2"
    assert f"python run_search.py {step}" in page.text


def test_trials_that_failed_are_counted_with_their_most_frequent_reason(study, trial):
    ended = [trial(0, {"Water": 0.5}), *(trial(n, state="failed", reason=f"GPU {n} on fire") for n in (1, 2))]
    text = Page(report_html(ReportInput(study, [*ended, trial(3, state="infeasible", reason="too large")]))).text
    assert "4 of 60 trials ended, 2 failed, 1 infeasible" in text
    assert "2 failed, 1 infeasible; most frequent reason, as in trial 1: GPU 1 on fire" in text
    assert "trials finished" not in text


def test_only_failed_trials_make_a_page_with_their_reasons(study, trial):
    failed = [trial(n, state="failed", reason="GPU on fire") for n in range(3)]
    text = Page(report_html(ReportInput(study, failed))).text
    assert text.count("GPU on fire") == 1 + 2 * 3
    assert "No trial is done yet" in text
    assert "search --study india --workers 2" in text


def test_a_search_that_is_over_without_a_result_does_not_ask_to_let_it_go_on(study_with, trial):
    over = study_with(limits={"max_trials": 2})
    text = Page(report_html(ReportInput(over, [trial(n, state="failed") for n in range(2)]))).text
    assert "All trials ended without a result" in text
    assert "let it go on" not in text
    assert "run_search.py trials --study india" in text


def test_more_trials_than_the_limit_are_told_as_such(study_with, trial):
    lowered = study_with(limits={"max_trials": 1})
    text = Page(report_html(ReportInput(lowered, [trial(n, {"Water": 0.5}) for n in range(3)]))).text
    assert "3 trials ended, more than limits.max_trials = 1" in text
    assert "3 of 1" not in text


def test_one_of_a_thing_is_not_told_in_the_plural(study_with, trial, models):
    one = {"epochs": 1, "steps_per_epoch": 1}
    small = study_with(limits={"max_trials": 1}, search={"startup_trials": 1}, budget=one, retrain=one)
    text = Page(report_html(ReportInput(small, [trial(0, {"Water": 0.5})], "f00d", models))).text
    assert "1 of 1 trial ended" in text
    assert text.count("1 epoch of 1 step") == 2
    assert "The first trial was drawn at random" in text
    assert not re.search(r"\b1 (trials|epochs|steps)\b", text)


def test_retrained_but_not_scored_asks_for_predict_and_score(study, trials, models):
    text = Page(report_html(ReportInput(study, trials, "f00d", models))).text
    assert "run_search.py predict --study india test python run_search.py score --study india" in text
    assert "Scores on held-out test scenes" in text


def test_without_test_scenes_the_validation_scenes_are_mapped_and_scored(study_with, trials, models):
    text = Page(report_html(ReportInput(study_with(folds={"validation": ["a"]}), trials, "f00d", models))).text
    steps = "run_search.py predict --study india validation python run_search.py score --study india --fold validation"
    assert text.count(steps) == 2
    assert "held-out scenes" not in text


def test_models_of_other_data_are_flagged(study, trials, models):
    text = Page(report_html(ReportInput(study, trials, "beef", models))).text
    assert "trained on another version of the data (f00d)" in text


def test_hostile_names_stay_text(study, trial, models):
    evil = '<script>alert("1")</script>'
    # Past the checks of study files, which would refuse such names.
    data = study.data.model_copy(update={"classes": (evil,), "folder": '"><img src=x onerror=alert(1)>'})
    folds = study.folds.model_copy(update={"validation": ("</style><script>",)})
    hostile = study.model_copy(update={"data": data, "folds": folds})
    given = [trial(0, {evil: 0.5}), trial(1, state="failed", reason=evil)]
    member = models.members[0].model_copy(update={"class_name": evil})
    maps = (models.maps[0].model_copy(update={"class_name": evil}),)
    model_set = ModelSet(
        study=evil, data_fingerprint=evil, classes=(evil,), bands=(evil,), members=(member,), maps=maps
    )
    score = ScoreRecord(fold=evil, scenes=(evil,), jaccard={evil: 0.5}, mean_jaccard=0.5, rule=evil)
    page = Page(report_html(ReportInput(hostile, given, evil, model_set, score, (), evil, (evil,))))
    assert "script" not in page.tags
    assert evil in page.text
    assert all(image.startswith("data:image/png") for image in page.images)


def test_missing_pictures_and_other_files_are_refused_before_anything_is_written(tmp_path, study):
    path = tmp_path / "report.html"
    with pytest.raises(PictureError, match=r"cannot be read .*gone\.png"):
        write_report(path, ReportInput(study, [], pictures=[(tmp_path / "gone.png", "x")]))
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(PictureError, match="no PNG"):
        write_report(path, ReportInput(study, [], pictures=[(text, "x")]))
    assert not path.exists()


def test_model_and_score_tables_keep_the_data_sets_apart(models, score):
    table = model_table(models, score).set_index("class")
    assert table.loc["Water", "jaccard[Jaccard, validation scenes]"] == 0.8125
    assert table.loc["Water", "jaccard[Jaccard, maps of test scenes]"] == 0.625
    assert np.isnan(table.loc["Roads", "jaccard[Jaccard, maps of test scenes]"])
    assert table.loc["Roads", "origin"] == "–"
    assert len(model_table(models).columns) == len(table.columns)
    assert table.loc["Water", "num_models"] == 1
    scores = score_table(score)
    assert list(scores["class"]) == ["Water", "Roads", "mean"]
    assert list(scores.loc[0])[2:] == [5, 1, 2]


def test_several_models_of_a_class_are_one_row_that_says_how_it_was_counted(ensembles):
    table = model_table(ensembles).set_index("class")
    assert list(table["num_models"]) == [4, 1]
    assert table.loc["Water", "num_parameters"] == 4 * 4321
    assert table.loc["Water", "jaccard[Jaccard, folds]"] == 0.65
    assert table.loc["Water", "spread"] == 0.0625
    assert np.isnan(table.loc["Roads", "spread"])
    text = render_table(model_table(ensembles), 120)
    assert "± 0.062" in text
    phrase = thresholds_phrase(ensembles)
    assert phrase == (
        "Thresholds come from the ground of all folds and the study's validation ground. Jaccard was counted of Water "
        "each fold at the threshold that the other folds chose; of Roads on the ground that chose the threshold, which "
        "flatters. No part in it has fold 3, which lacks Water. "
        "The spread is a standard deviation over folds."
    )


@pytest.mark.parametrize(
    ("saw", "words"),
    [
        ("nothing", "the score from these scenes, whose labels had no part in training or in any choice."),
        ("thresholds", "so from these scenes, on which they are scored. The score flatters."),
        ("training", "some of the models were trained on these scenes. The score flatters."),
        ("start", "Some models began from others; if these were trained on these scenes, the score flatters."),
        ("", "what the models saw of these scenes before is not known."),
    ],
)
def test_a_score_says_what_the_models_saw_of_its_ground(score, saw, words):
    told = independence_phrase(score.model_copy(update={"threshold_from": "validation", "models_saw": saw}))
    assert told.startswith("Thresholds come from the study's validation ground")
    assert told.endswith(words)
    assert independence_phrase(score) == "", "of records of before nothing is claimed"


def test_the_page_warns_of_scores_on_ground_that_trained(study, ensembles, score):
    told = score.model_copy(update={"threshold_from": "folds", "models_saw": "training"})
    html = report_html(ReportInput(study, [], "f00d", ensembles, told))
    text = Page(html).text
    assert 'class="warning">Thresholds come from the ground of all folds' in html
    assert "Neither the search nor the retraining looked at these" not in text
    assert (
        "5 models of 2 classes, on 3 folds, 2 seeds. A class is mapped by the mean of its models. "
        "The budget of each was 40 epochs of 30 steps. "
        "Validation ground: for Water of the 3 folds, each model's the one that it did not see; for Roads scene_03."
    ) in text
    assert validated_phrase(ensembles.members_of("Water"), "scene_03") == (
        "Validation ground: of the 3 folds, each model's the one that it did not see."
    )
    assert validated_phrase(ensembles.members_of("Roads"), "scene_03") == "Validation ground: scene_03."


def test_a_mean_over_some_of_the_classes_says_of_which(study, trials, models, score):
    text = Page(report_html(ReportInput(study, trials, "f00d", models, score))).text
    assert "mean Jaccard of the retrained models over Water, held-out test scenes" in text
    assert "a mean Jaccard of 0.625 over Water on held-out test scenes" in text
    every = score.model_copy(update={"jaccard": dict.fromkeys(study.classes, 0.625)})
    assert (
        "mean Jaccard of the retrained models, held-out"
        in Page(report_html(ReportInput(study, trials, "", models, every))).text
    )


@pytest.mark.parametrize(
    ("algorithm", "said"), [("tpe", "after them TPE proposed"), ("rand", "All trials were drawn at random")]
)
def test_the_page_says_what_proposed(study_with, trials, algorithm, said):
    study = study_with(search={"algorithm": algorithm})
    text = Page(report_html(ReportInput(study, trials))).text
    assert said in text
    assert ("TPE" in text) == (algorithm == "tpe")


def test_what_is_damaged_is_warned_of_on_the_page(study, trials):
    html = report_html(ReportInput(study, trials, damaged=["score.json is <damaged>"]))
    assert '<p class="warning">score.json is &lt;damaged&gt;</p>' in html


def test_records_survive_their_files_and_refuse_contradictions(models, score):
    assert decode(ModelSet, encode(models), where="t") == models
    assert decode(ScoreRecord, encode(score), where="t") == score
    assert [member.trial for member in models.members_of("Water")] == [7]
    assert models.members_of("Buildings") == ()
    assert (models.map_of("Water").threshold, models.map_of("Buildings")) == (0.35, None)
    told = [each.model_copy(update={"start_from": "m", "fine_tuned": True}) for each in models.members]
    assert models.model_copy(update={"members": tuple(told)}).fingerprint == models.fingerprint
    twice = encode(models)
    twice["members"].append(twice["members"][0])
    with pytest.raises(MalformedError, match="same class"):
        decode(ModelSet, twice, where="t")
    mixed = encode(models)
    mixed["members"].append({**mixed["members"][0], "fold": 1, "num_folds": 2})
    with pytest.raises(MalformedError, match="the models of Water are of different splits"):
        decode(ModelSet, mixed, where="t")
    for maps in ([], encode(models)["maps"][:1], encode(models)["maps"][::-1]):
        with pytest.raises(MalformedError, match="one entry for each class with a model, in order: Water, Roads"):
            decode(ModelSet, {**encode(models), "maps": maps}, where="t")
    with pytest.raises(MalformedError, match=r"`maps` must be empty, as there is no model\.$"):
        decode(ModelSet, {**encode(models), "members": []}, where="t")
    with pytest.raises(MalformedError, match="does not have: Water"):
        decode(ModelSet, {**encode(models), "classes": ["Roads"]}, where="t")


def test_numbers_do_not_break_between_their_groups(study, trials):
    html = report_html(ReportInput(study, trials))
    assert re.search(r"33\xa0000", html)


def test_pictures_keep_their_size_and_a_cut_file_is_refused(tmp_path, study):
    path = tmp_path / "wide.png"
    cv2.imwrite(str(path), np.zeros((20, 1800, 3), np.uint8))
    html = report_html(ReportInput(study, [], pictures=[(path, "wide")]))
    assert 'width="1800" height="20"' in html
    path.write_bytes(path.read_bytes()[:12])
    with pytest.raises(PictureError, match="no PNG"):
        report_html(ReportInput(study, [], pictures=[(path, "cut")]))


def test_figure_files_are_written_where_there_is_something_to_show(tmp_path, study, trials, models, score):
    assert write_figures(tmp_path / "none", ReportInput(study, [])) == []
    given = ReportInput(study, trials, "f00d", models, score)
    files = write_figures(tmp_path / "all", given)
    assert [file.stem for file in files] == [
        "search_progress",
        "learning_curves",
        "what_mattered",
        "retraining",
        "jaccard_per_class",
    ]
    assert all(cv2.imread(str(file)).std() > 1 for file in files)
    assert left_out_line(given) == ""


@pytest.mark.parametrize("count", [0, 1, 3])
def test_every_figure_is_either_written_or_named_as_left_out(tmp_path, study, trials, count):
    given = ReportInput(study, trials[:count])
    written = {file.name for file in write_figures(tmp_path, given)}
    left_out = set(re.findall(r"\w+\.png", left_out_line(given)))
    assert written.isdisjoint(left_out)
    assert len(written | left_out) == 5
    assert "\n" not in left_out_line(given)


def test_what_is_left_out_comes_with_its_reason(study, trials, trial):
    line = left_out_line(ReportInput(study, trials[:3]))
    assert line == (
        "Left out: what_mattered.png (3 trials of the 8 that it takes are done), "
        "retraining.png and jaccard_per_class.png (nothing is retrained)"
    )
    alike = [trial(n, {"a": 0.5}, point={"architecture.depth": 2.0}) for n in range(9)]
    assert "what_mattered.png (what was tried, or what came of it, differs too little)" in left_out_line(
        ReportInput(study, alike)
    )


def test_the_page_shows_the_folds_and_what_was_scored_of_which_scene(study_with, trials, models):
    folds = {"num_folds": 3, "test_fold": 3, "unit": "block", "block_px": 256}
    lacking = {"Water": 0.5, "Buildings": 0.5, "Roads": 0.0}
    rows = [("1", "validation", lacking), ("2", "training", dict.fromkeys(lacking, 0.5)), ("3", "test", lacking)]
    split = Split(
        folds=[
            FoldShares(name=n, used_for=use, num_scenes=1, num_blocks=4, known_share=0.3, class_shares=s)
            for n, use, s in rows
        ]
    )
    ground = (ScoredGround(scene="north", blocks_px=((0, 0, 250, 250), (0, 250, 250, 500)), known_share=0.31),)
    score = ScoreRecord(
        fold="test",
        scenes=("north",),
        ground=ground,
        jaccard={"Water": 0.5, "Roads": None},
        absent=("Roads",),
        threshold_from="validation",
        models_saw="nothing",
    )

    text = Page(report_html(ReportInput(study_with(folds=folds), trials, "f00d", models, score, split=split))).text

    for words in (
        "fold 1 of 3, dealt in blocks of about 256 px",
        "held-out test blocks",
        "validation blocks",
        "Absent from fold 3, test: Roads, which has no score.",
        "Scored: north (2 blocks, 31.0 %). Neither the search nor the retraining looked at these blocks.",
        "No labelled pixel there, so no score: Roads.",
    ):
        assert words in text, words
    assert "Folds" not in Page(report_html(ReportInput(study_with(folds=folds), trials))).text
