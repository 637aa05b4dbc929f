"""The progress of long loops."""

import logging

import pytest

from upsnet import progress


@pytest.mark.parametrize("weight", [1, 3])
def test_the_log_counts_the_weight_of_what_is_done(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, weight: int
) -> None:
    monkeypatch.setattr(progress, "LOG_INTERVAL", 0.0)
    with caplog.at_level(logging.INFO, logger="upsnet.progress"):
        items = list(progress.show_progress("ab", 2 * weight, "work", lambda _: weight))
    assert items == ["a", "b"]
    assert [record.getMessage().rsplit(", ", 1)[0] for record in caplog.records] == [
        f"work: {weight} of {2 * weight}",
        f"work: {2 * weight} of {2 * weight}",
    ]
