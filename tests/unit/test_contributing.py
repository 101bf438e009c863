"""What CONTRIBUTING says of additions: done literally, it works."""

import inspect
import re
from pathlib import Path

import pytest

from laptop.workspace import LIBRARY
from sightline.formats import convert
from sightline.tasks.metrics import MetricError, require_metrics, require_selecting

PAGE = (LIBRARY.parent / "CONTRIBUTING.md").read_text()
READERS = {Path(str(inspect.getsourcefile(read))) for read in convert._READERS.values()}


def test_the_examples_of_a_format_are_the_shortest():
    lines = {path.name: path.read_text().count("\n") for path in READERS}
    with_shapes = {path.name for path in READERS if "Shape" in path.read_text()}
    shortest, shortest_with_shapes = re.findall(r"`(\w+\.py)`(?: is)? the shortest", PAGE)
    assert shortest == min(lines, key=lambda name: lines[name])
    assert shortest_with_shapes == min(with_shapes, key=lambda name: lines[name])


@pytest.mark.parametrize("name", ["_READERS", "_OF_ALL", "_BESIDE"])
def test_the_tables_that_name_a_format_are_there(name):
    assert f"`{name}`" in PAGE and hasattr(convert, name)


def test_the_place_where_a_format_is_recognized_is_there():
    from sightline.formats import detect

    assert "`_find_forms`" in PAGE and callable(detect._find_forms)


@pytest.mark.parametrize("folder", ["custom/metrics", "sightline/tasks/detection/metrics"])
def test_a_metric_is_a_file_in_a_folder_that_is_made_for_it(tmp_path, folder):
    with pytest.raises(MetricError):
        require_metrics(tmp_path, "detection", ["found"])
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "found.py").write_text("def score(truth, results, outputs=()):\n    return {'found': 1.0}\n")
    require_metrics(tmp_path, "detection", ["found"])
    require_selecting(tmp_path, "detection", "found")
