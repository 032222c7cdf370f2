"""The report: one page that shows a study, its best networks, and how well they map."""

import json
from datetime import UTC, datetime
from pathlib import Path

from results import page
from results.commands import again_phrases
from results.curve_figures import best_learning_curves
from results.effect_figures import what_mattered
from results.facts import mean_jaccard, ranked, training_s
from results.figures import PROPOSERS, jaccard_per_class, search_progress
from results.files import write_text
from results.importance import dimension_effects, effects_missing
from results.phrases import (
    architecture_phrase,
    count_text,
    counted,
    duration_text,
    failure_counts,
    failures_line,
    jaccard_text,
)
from results.report_input import ReportInput, jaccard_of_folds, spreads_of
from results.retraining_figure import retraining_curves
from results.scores import (
    absent_phrase,
    independence_phrase,
    model_table,
    models_phrase,
    polygon_table,
    score_table,
    scored_ground_phrase,
    things_phrase,
    thresholds_phrase,
    validated_phrase,
)
from results.splits import held_out_phrase, split_notes, split_table
from results.tables import all_trials, candidate_details, leader_board
from search_space.decode import encode
from search_space.study import Budget, SearchSettings


def write_report(path: Path, given: ReportInput) -> Path:
    """Write the page, complete or not at all. It needs no other file: pictures and style are inside.

    Args:
        path: The HTML file.
        given: What to show; sections without content say which command makes it.

    Returns:
        `path`.

    Raises:
        PictureError: A picture is missing or no PNG file.
        PlaceError: `path` is a folder, or a folder on the way to it is a file.
    """
    return write_text(path, report_html(given))


def report_html(given: ReportInput) -> str:
    """The page as text; see `write_report`."""
    sections = (
        *(_headline, _leaders, _progress, _effects, _best),
        *(_folds, _retrained, _scores, _pictures, _trials, _again),
    )
    body = [part for section in sections for part in section(given)]
    return page.document(f"{given.study.name} · Mapgrove", [*body, _footer(given)])


def _headline(given: ReportInput) -> list[str]:
    study, best = given.study, given.best
    score = given.score
    where, over = _scored_phrase(given), _over_phrase(given)
    spent_s = sum(training_s(trial) or 0.0 for trial in given.ended)
    values = [
        (jaccard_text(mean_jaccard(best)) if best else "–", f"best mean Jaccard of the search, {_validation(given)}"),
        (jaccard_text(score.mean_jaccard if score else None), f"mean Jaccard of the retrained models{over}, {where}"),
        _ended_tile(given),
        (duration_text(spent_s), "spent in trials, all workers together"),
    ]
    known = [
        ("data", f"{study.data.folder} ({study.data.format})"),
        ("data fingerprint", given.data_fingerprint or "–"),
        ("classes", ", ".join(study.classes)),
        ("bands", ", ".join((*(study.data.bands or ("all",)), *study.data.indices))),
        (_validation(given), held_out_phrase(study.folds, "validation")),
        (_places_phrase("test", study.folds.places), held_out_phrase(study.folds, "test")),
        ("budget of a trial", _budget_phrase(study.budget)),
        ("seed", str(study.study.seed)),
    ]
    return [
        page.paragraph("Mapgrove", "brand"),
        page.study_title(study.name),
        page.paragraph(_summary(given), "lead"),
        *(page.paragraph(line, "warning") for line in given.damaged),
        page.tiles(values),
        page.facts(known),
    ]


def _ended_tile(given: ReportInput) -> tuple[str, str]:
    num_ended, limit = len(given.ended), given.study.limits.max_trials
    over = f"more than limits.max_trials = {limit}" if num_ended > limit else ""
    value = count_text(num_ended) if over else f"{count_text(num_ended)} of {count_text(limit)}"
    noun = "trial" if limit == 1 and not over else "trials"
    return value, ", ".join(filter(None, (f"{noun} ended", over, failure_counts(given.trials))))


def _budget_phrase(budget: Budget) -> str:
    return f"{counted(budget.epochs, 'epoch')} of {counted(budget.steps_per_epoch, 'step')}"


def _summary(given: ReportInput) -> str:
    best = given.best
    if best is None:
        if given.is_complete:
            return "All trials ended without a result; the reasons are below."
        return "No trial is done yet; this page fills as the search goes on."
    standing = "Best of all" if given.is_complete else "Best so far"
    text = f"{standing} is trial {best.number}: {architecture_phrase(best.decoded().architecture)}."
    score = given.score
    if score is not None and score.mean_jaccard is not None:
        reached = f"a mean Jaccard of {score.mean_jaccard:.3f}{_over_phrase(given)} on {_scored_phrase(given)}"
        text += f" The retrained models reach {reached}."
    return text


def _over_phrase(given: ReportInput) -> str:
    """Which classes the mean score is of, where it is not of all that were searched for; else nothing."""
    scored = [name for name, value in given.score.jaccard.items() if value is not None] if given.score else []
    return f" over {', '.join(scored)}" if 0 < len(scored) < len(given.study.classes) else ""


def _scored_phrase(given: ReportInput) -> str:
    """What was scored, or is to be scored."""
    if given.score is not None:
        return _places_phrase(given.score.fold, given.score.places)
    return _places_phrase(given.lines.scored_fold, given.study.folds.places)


def _places_phrase(fold: str, places: str) -> str:
    return f"held-out test {places}" if fold == "test" else f"{fold} {places}"


def _validation(given: ReportInput) -> str:
    return _places_phrase("validation", given.study.folds.places)


def _leaders(given: ReportInput) -> list[str]:
    title = page.heading("Leader board")
    board = leader_board(given.trials, given.study.classes, top=10)
    failures = failures_line(given.trials)
    why = page.paragraph(f"Without a result: {failures}", "quiet") if failures else ""
    if board.empty:
        return [title, why, _search_step(given)]
    return [
        title,
        page.paragraph(
            f"Jaccard per class on the {_validation(given)}, each at the threshold that serves it best there: "
            "good for ranking, a little flattering as a promise.",
            "quiet",
        ),
        page.table(board, first_is_best=True),
        why,
    ]


def _search_step(given: ReportInput) -> str:
    if given.is_complete:
        text = (
            "The search is over. Mend the reason in the study's file, then search under another study.name, "
            "or go on with a higher limits.max_trials. This lists every reason:"
        )
        return page.next_step(text, [given.lines.line("trials")])
    return page.next_step("Start the search, or let it go on:", [given.lines.search()])


def _progress(given: ReportInput) -> list[str]:
    if not given.trials:
        return []
    search = given.study.search
    return [
        page.heading("The search"),
        page.chart(
            lambda theme: search_progress(given.trials, search.startup_trials, theme, search.algorithm),
            "Mean validation Jaccard of every trial in order, with the best so far",
            f"Each dot is a trial, the line the best so far. {_proposed_phrase(search)} "
            "Trials without a result lie on the strip below.",
        ),
        page.chart(
            lambda theme: best_learning_curves(given.trials, 4, theme) if given.best else None,
            "Learning curves of the best trials",
            "How the best trials learned, epoch by epoch.",
        ),
    ]


def _proposed_phrase(search: SearchSettings) -> str:
    """Who proposed which trials."""
    how = "known beforehand or drawn at random" if search.start_from else "drawn at random"
    if search.algorithm == "rand":
        return f"All trials were {how}."
    startup = search.startup_trials
    first = "The first trial was" if startup == 1 else f"The first {startup} trials were"
    return f"{first} {how}; after them {PROPOSERS[search.algorithm]} proposed."


def _effects(given: ReportInput) -> list[str]:
    num_done, effects = len(ranked(given.trials)), dimension_effects(given.trials)
    figure = page.chart(
        lambda theme: what_mattered(given.trials, theme=theme),
        "Jaccard against the value of the most telling dimensions",
        f"From {counted(num_done, 'trial')}. Each dimension is looked at by itself: the share of the trials' ranking "
        "that goes with it, corrected for its number of values. What chance reaches in more than one of twenty "
        f"shuffles is grey; of the {counted(len(effects), 'dimension')} looked at about one in twenty would pass by "
        "chance alone. Interplay is not seen, and the search tried what went well more often.",
    )
    if not figure:
        reason = effects_missing(given.trials)
        figure = page.paragraph(f"Which dimensions go with good results cannot be told: {reason}.", "quiet")
    return [page.heading("What mattered"), figure]


def _best(given: ReportInput) -> list[str]:
    best = given.best
    if best is None:
        return []
    blocks = [
        page.subheading(str(group).capitalize()) + page.facts(zip(rows["name"], rows["value"], strict=True))
        for group, rows in candidate_details(best.decoded()).groupby("group", sort=False)
    ]
    return [page.heading(f"The best candidate: trial {best.number}"), page.columns(blocks)]


def _folds(given: ReportInput) -> list[str]:
    if given.split is None:
        return []
    return [
        page.heading("Folds"),
        page.paragraph("What each fold holds of all labelled ground, and of each class's pixels.", "quiet"),
        page.table(split_table(given.split)),
        *(page.paragraph(note, "quiet") for note in split_notes(given.split)),
    ]


def _retrained(given: ReportInput) -> list[str]:
    title = page.heading("Retrained models")
    if given.model_set is None or not given.members:
        text = "Train the best architecture once per class, longer:"
        step = page.next_step(text, given.lines.retrain(given.best))
        return [title, step] if given.best else []
    models = given.model_set
    parts = [title]
    if given.data_fingerprint and models.data_fingerprint != given.data_fingerprint:
        parts.append(
            page.paragraph(
                f"These models were trained on another version of the data ({models.data_fingerprint}). "
                "Retrain them before trusting their scores.",
                "warning",
            )
        )
    return [
        *parts,
        page.paragraph(f"{models_phrase(models)} {_budgets_phrase(given)}", "quiet"),
        page.paragraph(thresholds_phrase(models), "quiet"),
        page.table(model_table(models, given.score, given.study.folds.places)),
        page.chart(
            lambda theme: retraining_curves(models.members, theme),
            "Validation Jaccard and training loss of every retrained model, epoch by epoch, a row of panels per class",
            "How the models learned, a row per class, a line per model.",
        ),
    ]


def _budgets_phrase(given: ReportInput) -> str:
    """What the models were trained for; what the study says where they do not know."""
    known = [(each.epochs, each.steps_per_epoch) for each in given.members if each.epochs and each.steps_per_epoch]
    budgets = dict.fromkeys(Budget(epochs=epochs, steps_per_epoch=steps) for epochs, steps in known)
    several = " or ".join(map(_budget_phrase, budgets or [given.study.retrain]))
    own_split = held_out_phrase(given.study.folds, "validation")
    return f"The budget of each was {several}. {validated_phrase(given.members, own_split)}"


def _scores(given: ReportInput) -> list[str]:
    if not given.members:
        return []
    score = given.score
    if score is None:
        text = f"Map the {_scored_phrase(given)} and compare the maps with their labels:"
        step = page.next_step(text, given.lines.map_and_score())
        return [page.heading(f"Scores on {_scored_phrase(given)}"), step]
    honest = f"Neither the search nor the retraining looked at these {score.places}."
    saw = honest if score.models_saw == "nothing" else ""
    where = f"Scored: {scored_ground_phrase(score)}. {saw} {_sentence(score.rule)}"
    independence = independence_phrase(score)
    return [
        page.heading(f"Scores on {_scored_phrase(given)}"),
        page.paragraph(" ".join(where.split()), "quiet"),
        page.paragraph(independence, "quiet" if score.models_saw == "nothing" else "warning") if independence else "",
        page.paragraph(absent_phrase(score), "quiet") if score.absent else "",
        page.chart(
            lambda theme: jaccard_per_class(*jaccard_of_folds(given), theme, spreads_of(given)),
            f"Bars of Jaccard per class on validation {'and held-out test ' if score.fold == 'test' else ''}ground",
        ),
        page.table(score_table(score)),
        *([page.paragraph(things_phrase(score), "quiet"), page.table(polygon_table(score))] if score.polygons else []),
    ]


def _sentence(text: str) -> str:
    return text if not text or text.endswith(".") else f"{text}."


def _pictures(given: ReportInput) -> list[str]:
    if not given.pictures:
        return []
    return [page.heading("Pictures"), page.pictures(given.pictures)]


def _trials(given: ReportInput) -> list[str]:
    frame = all_trials(given.trials, given.study.classes)
    others = frame[frame["note"] != ""]
    parts = [page.heading("Details")]
    if len(others):
        summary = f"Trials with a note, such as why they failed ({len(others)})"
        parts.append(page.collapsed(summary, page.table(others[["trial", "state", "architecture", "note"]])))
    if len(frame):
        parts.append(page.collapsed(f"All trials ({len(frame)})", page.table(frame)))
    settings = json.dumps(encode(given.study), indent=2, ensure_ascii=False)
    return [*parts, page.collapsed("The study's settings, every default filled in", page.commands([settings]))]


def _again(given: ReportInput) -> list[str]:
    fold = given.score.fold if given.score else ""
    lines = given.commands or given.lines.everything(given.best, given.model_set, fold, given.retrained)
    return [
        page.heading("Do it again"),
        page.paragraph(" ".join(again_phrases(given.study, given.members, lines)), "quiet"),
        page.commands(lines),
    ]


def _footer(given: ReportInput) -> str:
    if given.made_s is None:
        return "<footer>Made by Mapgrove.</footer>"
    moment = datetime.fromtimestamp(given.made_s, tz=UTC)
    return f"<footer>Made by Mapgrove on {moment:%d %B %Y, %H:%M} UTC.</footer>"
