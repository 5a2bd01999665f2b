"""The demo, at a size that proves that its parts fit; its figures at full size are the demo's own business."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.test_cli import run


def test_the_demo_does_the_whole_job_and_a_rerun_changes_nothing(tmp_path: Path) -> None:
    run("demo", "--out", str(tmp_path), "--limit", "6")
    first = json.loads((tmp_path / "summary.json").read_text())
    for name in ("pass@1", "majority@16", "best_of_16", "weighted_16", "beam_16", "oracle_pass@16"):
        assert set(first[name]) >= {"value", "low", "high", "n", "policy_tokens", "reward_tokens"}
        assert 0.0 <= first[name]["value"] <= 1.0
        assert first[name]["n"] == 6
    for name in ("first_error_f1", "label_mean_abs_error", "calibration_ece", "wall_s", "peak_rss_mb"):
        assert isinstance(first[name], float | int), name
    page = (tmp_path / "report.html").read_text()
    assert "Accuracy on unseen problems" in page
    assert "Look at solutions" in page
    run("demo", "--out", str(tmp_path), "--limit", "6")
    second = json.loads((tmp_path / "summary.json").read_text())
    clock = {"wall_s", "peak_rss_mb", "usage"}
    assert {key: value for key, value in second.items() if key not in clock} == {key: value for key, value in first.items() if key not in clock}
