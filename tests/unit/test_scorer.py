"""Metrics of one's own beside a task's own numbers: what they may return, and what they cannot do."""

from pathlib import Path

import pytest

from sightline.errors import SightlineError
from sightline.tasks.metrics import MetricError, Scorer, require_metrics
from sightline.tasks.task import Task

SHARED_VOLUME = Path(__file__).resolve().parents[2] / "shared_volume"
TRUTH = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1}],
    "categories": [{"id": 1, "name": "cats"}, {"id": 2, "name": "dogs"}],
}
RESULTS = [{"image_id": 1, "category_id": 1, "score": 0.75}]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a metric; each has a name of its own, since Python keeps modules."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, body: str) -> Scorer:
        path = tmp_path / "custom" / "metrics" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"from sightline.tasks.task import Scores\ndef score(truth, results, outputs=()):\n    {body}\n"
        )
        return Scorer(Task("classification"), [name])

    return write


def test_values_stand_beside_the_tasks_own(write):
    scores = write("good", "return Scores({'good': 3, 'good_too': 0.5}, {'cats': {'good': 1}})")(TRUTH, RESULTS, ())
    assert scores.values["accuracy"] == 1.0
    assert (scores.values["good"], scores.values["good_too"]) == (3.0, 0.5)
    assert scores.per_class["cats"]["good"] == 1.0
    assert "good" not in scores.per_class["dogs"]


@pytest.mark.parametrize(
    ("name", "body", "told"),
    [
        ("number", "return 0.5", "must return its values by name"),
        ("nothing", "pass", "must return its values by name"),
        ("texts", "return {'texts': 'high'}", "gives 'high' for texts"),
        ("flag", "return {'flag': True}", "gives True for flag"),
        ("other", "return {'accuracy_too': 1.0}", "names a value 'accuracy_too'"),
        ("keys", "return {1: 1.0}", "names a value 1"),
        ("long", "return {'long_' + 'x' * 400: 1.0}", "at most 100"),
        ("lines", "return {'lines_a\\nb': 1.0}", "at most 100"),
        ("accuracy", "return {'accuracy': 0.99}", "gives accuracy, which the task's own numbers"),
        ("strange", "return Scores({}, {'birds': {'strange': 1.0}})", "scores the class 'birds'"),
        ("flat", "return Scores({}, {'cats': 1.0})", "values per class are a dict"),
        ("raises", "return 1 / 0", "custom/metrics/raises.py failed: ZeroDivisionError"),
        ("big", "return {'big': 10**400}", "custom/metrics/big.py failed: OverflowError"),
    ],
)
def test_what_a_metric_may_not_return_is_told(write, name, body, told):
    with pytest.raises(MetricError, match=told):
        write(name, body)(TRUTH, RESULTS, ())


def test_what_a_metric_does_to_its_arguments_reaches_nobody(write):
    results = [dict(one) for one in RESULTS]
    scores = write("greedy", "results.clear(); truth['categories'].clear(); return {'greedy': 1.0}")(TRUTH, results, ())
    assert scores.values["greedy"] == 1.0
    assert results == RESULTS
    assert len(TRUTH["categories"]) == 2


def test_a_metric_that_selects_is_found_by_its_values_name(write):
    write("chosen", "return {'chosen_small': 0.25}")
    assert Scorer(Task("classification"), select_by="chosen_small")(TRUTH, RESULTS).values["chosen_small"] == 0.25
    assert "chosen_small" not in Scorer(Task("classification"), select_by="accuracy")(TRUTH, RESULTS).values


def test_a_metric_that_is_not_there_is_named_with_the_nearest(tmp_path: Path):
    (tmp_path / "custom" / "metrics").mkdir(parents=True)
    (tmp_path / "custom" / "metrics" / "answers.py").write_text("")
    require_metrics(tmp_path, "classification", ["answers"])
    with pytest.raises(SightlineError, match=r"custom/metrics/answer\.py.*answers"):
        require_metrics(tmp_path, "classification", ["answer"])


@pytest.mark.parametrize("module", ["coco_evaluation", "confusion"])
def test_a_module_of_a_task_is_no_metric(module: str):
    with pytest.raises(SightlineError, match=f"names the metric '{module}'"):
        require_metrics(SHARED_VOLUME, "detection", [module])
