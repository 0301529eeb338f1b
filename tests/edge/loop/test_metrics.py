from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgecell.edge.loop.metrics import MetricsFile
from edgecell.errors import InputError
from tests.edge.loop.test_mqtt import HEALTH, RUN


def written(file: Path) -> dict[str, Any]:
    """The file as Prometheus' own parser reads it: name and labels to value."""
    return {
        (sample.name + "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(file.read_text())
        for sample in family.samples
    }


def test_the_file_holds_the_figures_of_the_loop(tmp_path: Path) -> None:
    file = tmp_path / "edgecell.prom"
    observer = MetricsFile(file)
    observer.health(HEALTH)  # no session yet
    assert not file.exists()
    observer.begun(RUN)
    observer.health(HEALTH)
    values = written(file)
    assert values["edgecell_frames"] == 9
    assert values["edgecell_frame_age_seconds"] == 0.0125
    assert values["edgecell_white_cells"] == values["edgecell_cellsLY"] == 3
    assert values["edgecell_to_review"] == 1
    assert (values["edgecell_source_lost"], values["edgecell_recording"]) == (0, 1)
    assert values["edgecell_temperature_celsius"] == 51


def test_a_name_that_node_exporter_does_not_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="node_exporter"):
        MetricsFile(tmp_path / "edgecell.txt")
