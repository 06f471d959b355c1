from __future__ import annotations

from benchmarks.kmeans import rows


def test_the_clusters_are_found_and_time_and_memory_told():
    seconds, peak, before, accuracy = rows(samples=4000, width=64)
    assert seconds["unit"] == "s"
    assert peak["value"] >= before["value"] > 0
    assert accuracy["value"] > 80
