"""The command's page and split, which are right before hours of training are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.learning import heart
from tests.benchmarks.learning.table import written


def test_a_table_takes_the_place_of_the_last_one_and_touches_nothing_else() -> None:
    page = written(written("# Figures\n", "one", "old\n"), "two", "other\n")
    assert written(page, "one", "new\n") == page.replace("old", "new")


@pytest.mark.skipif(not heart.TABLES.exists(), reason="the heart data are not beside this checkout")
def test_the_split_of_the_heart_data_is_flambys(tmp_path: Path) -> None:
    data = heart.data(tmp_path, heart.cases()[0].plan, 0)
    assert [len(site.inputs) for site in data.sites] == [199, 172, 30, 85]
    assert [len(test.inputs) for test in data.tests] == [104, 89, 16, 45]
