"""The table of a pipeline is nobody else's: not another workspace's, not a partition, none of ours."""

import itertools

import pytest

from sluiceway.catalog.service import silver_table_name

SLUGS = [
    "sales", "w2-sales", "w1-sales", "w1-w2-sales", "w2-w2-sales", "batches", "w1-batches",
    "samples-p2026-01",
    "sales-p2026-01", "sales-p2026w01", "w2-sales-p2026-01", "a" * 47, "a" * 48, "w2-" + "a" * 46,
]  # fmt: skip


def test_no_two_pipelines_share_a_table() -> None:
    named = [silver_table_name(workspace, slug) for workspace, slug in itertools.product((1, 2, 21), SLUGS)]
    assert len(set(named)) == len(named)
    assert all(len(name) + len("_p2026w01") <= 63 for name in named)


@pytest.mark.parametrize("workspace", [1, 2])
@pytest.mark.parametrize("leaf", ["p2026_01", "p2026w01"])
def test_no_pipeline_is_called_like_a_partition_of_another(workspace: int, leaf: str) -> None:
    for slug in SLUGS:
        taken = f"{silver_table_name(workspace, slug)}_{leaf}"
        for other in SLUGS:
            assert silver_table_name(workspace, other) != taken


def test_an_ordinary_name_stays_what_it_is() -> None:
    assert silver_table_name(1, "nyc-flights") == "nyc_flights"
    assert silver_table_name(3, "nyc-flights") == "w3_nyc_flights"
