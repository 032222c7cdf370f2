import argparse
import importlib
import shlex
from pathlib import Path

import pytest

from results.commands import StudyCommands, again_phrases
from results.settings import OF_SEARCH, settings_set
from search_space.candidate import Candidate
from search_space.records import ClassMap, ModelMember, ModelSet
from search_space.study_file import read_study

DEMO = Path(__file__).parents[2] / "configs" / "demo.toml"


def parsed(line):
    """What the verb's own parser makes of a printed command, as a shell would hand it over."""
    python, program, verb, *words = shlex.split(line)
    assert (python, program) == ("python", "run_search.py")
    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(f"verbs.{verb}").add_arguments(parser)
    return verb, parser.parse_args(words)


def model_set(study, trials):
    members = tuple(
        ModelMember(class_name=name, file=f"{name}.keras", candidate=Candidate(), threshold=0.5, trial=number)
        for name, number in trials.items()
    )
    return set_of(study, members)


def set_of(study, members):
    """A set of these models, whatever their maps are like."""
    mapped = {member.class_name for member in members}
    return ModelSet(
        study="s",
        data_fingerprint="f",
        classes=study.data.classes,
        bands=("red",),
        members=members,
        maps=[ClassMap(class_name=name, threshold=0.5) for name in study.data.classes if name in mapped],
    )


@pytest.mark.parametrize("named", ["", "configs/my study.toml"])
def test_every_command_is_understood_by_its_verb(study, trial, named):
    lines = StudyCommands(study, named).everything(trial(0, {"Water": 0.5}))
    made = [parsed(line) for line in lines]
    assert [verb for verb, _ in made] == ["prepare", "search", "retrain", "predict", "score", "report"]
    assert {options.study for _, options in made} == {named or "india"}


def test_options_of_the_study_go_into_every_command(study, trial):
    commands = StudyCommands(study, "a.toml", ["--set", 'space."plan.loss"={fix="a b"}', "--store", "sqlite:///x y"])
    for _, options in map(parsed, commands.everything(trial(0, {"Water": 0.5}))):
        assert options.assignments == ['space."plan.loss"={fix="a b"}']
        assert options.store == "sqlite:///x y"


def test_search_starts_workers_but_no_more_than_the_study_lets_work(study_with):
    assert parsed(StudyCommands(study_with()).search())[1].workers == 2
    assert parsed(StudyCommands(study_with(search={"lookahead": 1})).search())[1].workers == 1


@pytest.mark.parametrize(
    ("folds", "fold"), [({"validation": ["a"], "test": ["b"]}, "test"), ({"validation": ["a"]}, "validation")]
)
def test_maps_are_made_and_scored_on_a_fold_that_the_study_has(study_with, folds, fold):
    predict, score = (parsed(line)[1] for line in StudyCommands(study_with(folds=folds)).map_and_score())
    assert predict.scenes == [fold]
    assert score.fold == fold


def test_a_score_on_another_fold_is_made_again_on_that_fold(study):
    predict, score = (parsed(line)[1] for line in StudyCommands(study).map_and_score("validation"))
    assert predict.scenes == ["validation"]
    assert score.fold == "validation"


def test_only_the_classes_that_were_retrained_are_retrained_again(study, trial):
    best = trial(7, {"Water": 0.5})
    commands = StudyCommands(study)
    [some] = commands.retrain(best, model_set(study, {"Roads": 7, "Water": 7}))
    assert parsed(some)[1].classes == ["Water", "Roads"]
    assert parsed(some)[1].trial is None
    [every] = commands.retrain(best, model_set(study, {"Water": 7, "Buildings": 7, "Roads": 7}))
    assert parsed(every)[1].classes is None


def test_a_class_with_a_blank_is_quoted(study_with, trial):
    data = {"format": "masks", "folder": "d", "prepared": "p", "classes": ["road (paved)", "deep water", "trees"]}
    study = study_with(data=data)
    [line] = StudyCommands(study).retrain(trial(0, {"trees": 1}), model_set(study, {"road (paved)": 0, "trees": 0}))
    assert parsed(line)[1].classes == ["road (paved)", "trees"]
    assert "'road (paved)'" in line


def test_models_from_other_trials_than_the_best_name_their_trial(study, trial):
    models = model_set(study, {"Water": 7, "Buildings": 3, "Roads": 7})
    made = [parsed(line)[1] for line in StudyCommands(study).retrain(trial(7, {"Water": 0.5}), models)]
    assert [(options.trial, options.classes) for options in made] == [(None, ["Water", "Roads"]), (3, ["Buildings"])]


def test_ensembles_are_retrained_by_the_options_that_made_them(study, trial):
    def models_of(name, folds=(0,), seeds=(0,), **origins):
        several = [(fold, seed, rank) for fold in folds for seed in seeds for rank in range(len(origins["trials"]))]
        return [
            ModelMember(
                class_name=name,
                file=f"{name}{place}",
                candidate=Candidate(),
                threshold=0.5,
                fold=fold,
                num_folds=len(folds) if fold else 0,
                seed=seed,
                rank=rank,
                trial=origins["trials"][rank],
                study=origins.get("study", ""),
                recipe=origins.get("recipe", ""),
            )
            for place, (fold, seed, rank) in enumerate(several)
        ]

    members = [
        *models_of("Water", folds=(1, 2, 3), seeds=(0, 1), trials=[7, 4, 2]),
        *models_of("Buildings", trials=[3, 7], study="india/Buildings"),
        *models_of("Roads", folds=(1, 2), trials=[None], recipe="vooban"),
    ]
    lines = StudyCommands(study).retrain(trial(7, {"Water": 0.5}), set_of(study, members))
    made = {tuple(options.classes): options for _, options in map(parsed, lines)}
    water, buildings, roads = made["Water",], made["Buildings",], made["Roads",]
    assert (water.top, water.folds, water.seeds, water.per_class, water.trial) == (3, 3, 2, False, None)
    assert (buildings.top, buildings.folds, buildings.seeds, buildings.per_class) == (2, 0, 1, True)
    assert (roads.top, roads.folds, roads.recipe) == (1, 2, "vooban")


def test_a_class_that_no_validation_scene_has_is_not_retrained_for_the_first_time(study, trial):
    [line] = StudyCommands(study).retrain(trial(0, {"Roads": 0.5, "Water": 0.25}))
    assert parsed(line)[1].classes == ["Water", "Roads"]
    [line] = StudyCommands(study).retrain(trial(0, {"Roads": 0.5, "Water": 0.25, "Buildings": 0.0}))
    assert parsed(line)[1].classes is None


@pytest.mark.parametrize(("of_study", "word"), [("", "trial:0"), ("other", "MODEL")])
def test_what_began_from_a_model_begins_from_it_again(study, trial, of_study, word):
    """Where a model of another study lay, nobody wrote down: it is to be named."""
    [begun] = model_set(study, {"Water": 0}).members
    begun = begun.model_copy(update={"start": "0" * 64, "study": of_study})
    [line] = StudyCommands(study).retrain(trial(0, {"Water": 0.5}), set_of(study, (begun,)))
    assert parsed(line)[1].start == word


@pytest.mark.parametrize(("epochs", "fine_tune"), [(3, 3), (5, 5)])
def test_fine_tuning_names_its_model_and_its_epochs(study, trial, epochs, fine_tune):
    [water] = model_set(study, {"Water": 0}).members
    begun = {"start": "0" * 64, "study": "old", "start_from": "runs/old town/models", "fine_tuned": True}
    water = water.model_copy(update={**begun, "epochs": epochs, "steps_per_epoch": 80})
    [line] = StudyCommands(study, "a.toml").retrain(trial(0, {"Water": 0.5}), set_of(study, [water]))
    _, options = parsed(line)
    assert (options.start, options.fine_tune) == ("runs/old town/models", fine_tune)
    assert options.assignments == []
    assert "What --from names must be what it was then." in again_phrases(study, [water], [line])


def test_a_budget_that_is_not_the_files_is_set_as_it_was(study, trial):
    [water] = model_set(study, {"Water": 0}).members
    shorter = water.model_copy(update={"epochs": 5, "steps_per_epoch": 80})
    roads = water.model_copy(update={"class_name": "Roads", "epochs": 40, "steps_per_epoch": 80})
    models = set_of(study, [shorter, roads])
    made = [parsed(line)[1] for line in StudyCommands(study, "a.toml").retrain(trial(0, {"Water": 0.5}), models)]
    assert [(options.classes, options.assignments) for options in made] == [
        (["Water"], ["retrain.epochs=5"]),
        (["Roads"], []),
    ]

    lines = StudyCommands(study).retrain(trial(0, {"Water": 0.5}), models)
    assert [parsed(line)[1].study for line in lines] == ["STUDY.toml", "india"]
    assert any("STUDY.toml stands for the study's file" in told for told in again_phrases(study, (), lines))


def test_a_retraining_from_another_seed_sets_it(study, study_with, trial):
    models = model_set(study, {"Water": 0})
    made = study_with(study={"name": "india", "seed": 9}, limits={"max_trials": 3})
    [line] = StudyCommands(study, "a.toml").retrain(trial(0, {"Water": 0.5}), models, made)
    assert parsed(line)[1].assignments == ["study.seed=9"]


def test_models_from_studies_of_single_classes_ask_for_their_searches(study, trial):
    members = model_set(study, {"Water": 3, "Roads": 7}).members
    members = [members[0].model_copy(update={"study": "india/Water"}), members[1]]
    lines = StudyCommands(study).everything(trial(7, {"Water": 0.5}), set_of(study, members))
    searches = [options for verb, options in map(parsed, lines) if verb == "search"]
    assert [(each.one_vs_all, each.classes, each.workers) for each in searches] == [
        (False, None, 2),
        (True, ["Water"], 2),
    ]


def test_settings_that_are_set_make_the_study_that_was_searched():
    set_then = [
        "limits.max_trials=40",
        "study.seed=3",
        'search.start_from=["default", "vooban"]',
        'space."plan.patch_px"={fix=32}',
        'data.indices=["ndvi"]',
        "budget.epochs=2",
    ]
    searched, now = read_study(DEMO, set_then), read_study(DEMO)
    words = settings_set(searched, now, OF_SEARCH)
    assert words[::2] == ["--set"] * len(set_then)
    assert read_study(DEMO, words[1::2]) == searched
    assert settings_set(now, now, OF_SEARCH) == []


def test_proposals_are_promised_again_only_where_they_do_not_follow_the_pace(study_with):
    [promise] = again_phrases(study_with(search={"lookahead": 4}), (), [])
    assert promise.startswith("The same study, seed and data give the same proposals")
    [promise] = again_phrases(study_with(), (), [])
    assert "with a single worker" in promise
