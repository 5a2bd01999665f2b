"""Claims about calibrations as records, as wrappers of models, as vLLM's parameters, and about `stepward calibrate`."""

from __future__ import annotations

import gzip
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from stepward.cli.calibrate import calibrate
from stepward.core import CountMismatch, Example, FormatError, InputError, Problem, StepLabels, StepScores, Trajectory, from_record
from stepward.data.store import write_records
from stepward.engine.loop import run_sync
from stepward.rewards.calibration import (
    FITS,
    Calibrated,
    Calibration,
    data_hash,
    fit,
    fit_isotonic,
    fit_platt,
    fit_quantiles,
    fit_temperature,
    step_pairs,
    vllm_pooler_config,
)
from stepward.rewards.combine import Ensemble
from stepward.testing import check_reward_model

ABSTAIN = "abstained: no claim"
RNG = np.random.default_rng(0)
SCORES = RNG.random(300)
TARGETS = (RNG.random(300) < SCORES**2).astype(float)


class ByLetter:
    """Scores a step by its first letter: a = 0.1 ... i = 0.9; anything else is abstained from."""

    granularity = "step"

    def __init__(self, name: str = "by-letter", scale: str = "probability") -> None:
        self.fingerprint, self.scale = name, scale

    async def score(self, trajectory: Trajectory) -> StepScores:
        values = [(ord(step.text[0]) - 96) / 10 if "a" <= step.text[:1] <= "i" else math.nan for step in trajectory.steps]
        return StepScores(
            np.array(values, dtype=np.float64), tuple(ABSTAIN if math.isnan(v) else None for v in values), self.scale, aspects={"own": np.ones(len(values))}
        )  # type: ignore[arg-type]


def example(prompt: str, texts: list[str], first_error: int | None) -> Example:
    labels = None
    if first_error is not None:
        hard = [first_error < 0 or step < first_error for step in range(len(texts))]
        labels = StepLabels.from_hard(hard, semantics="prefix", first_error=first_error)
    return Example(Trajectory.from_texts(prompt, texts), labels, id=prompt)


# --- records


@pytest.mark.parametrize("method", FITS)
def test_a_saved_calibration_reads_back_exactly_and_equal_fits_write_equal_bytes(method: str, tmp_path: Path) -> None:
    made = fit(method, SCORES, TARGETS, model="prm:abc", data="123").described(targets="prefix")
    made.save(tmp_path / "a.json")
    fit(method, SCORES, TARGETS, model="prm:abc", data="123").described(targets="prefix").save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes(), "nothing in it tells when it was made"
    again = Calibration.load(tmp_path / "a.json")
    assert again == made == from_record(made.to_record())
    np.testing.assert_array_equal(again(SCORES), made(SCORES))
    assert (again.model, again.data, again.targets, again.n, again.base_rate) == ("prm:abc", "123", "prefix", 300, pytest.approx(TARGETS.mean()))
    record = json.loads((tmp_path / "a.json").read_text())
    assert (record["kind"], record["method"]) == ("calibration", method)


def test_damaged_or_foreign_files_are_told(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    record = fit_platt(SCORES, TARGETS).to_record()
    for content, message in [
        ("{", "not a JSON object"),
        ("[]", "not a JSON object"),
        ('{"kind": "step"}', "expected a 'calibration' record"),
        (json.dumps(record | {"method": "magic"}), "unknown method 'magic'"),
        (json.dumps(record | {"parameters": {"slope": 1.0}}), "malformed parameters"),
        (json.dumps(record | {"version": 99}), "upgrade stepward"),
    ]:
        file.write_text(content)
        with pytest.raises(FormatError, match=message) as caught:
            Calibration.load(file)
        assert str(file) in str(caught.value)
    with pytest.raises(InputError, match="stepward calibrate"):
        Calibration.load(tmp_path / "missing.json")


def test_fingerprints_follow_the_values_only() -> None:
    platt = fit_platt(SCORES, TARGETS)
    assert platt.fingerprint == fit_platt(SCORES, TARGETS, model="other", data="other").fingerprint
    assert len({fit(method, SCORES, TARGETS).fingerprint for method in FITS} | {fit_platt(SCORES, 1 - (1 - TARGETS) * 0.9).fingerprint}) == len(FITS) + 1


# --- the wrapper


def test_calibrated_scores_are_the_maps_of_the_models_and_keep_all_else() -> None:
    calibration = fit_isotonic(SCORES, TARGETS, model="by-letter")
    scores = run_sync(Calibrated(ByLetter(), calibration, threshold=0.3).score(Trajectory.from_texts("p", ["a", "?", "h"])))
    np.testing.assert_array_equal(scores.values, calibration([0.1, math.nan, 0.8]))
    np.testing.assert_array_equal(scores.aspects["uncalibrated"], [0.1, math.nan, 0.8])
    np.testing.assert_array_equal(scores.aspects["own"], [1.0, 1.0, 1.0])
    assert (scores.reasons, scores.scale, scores.threshold) == ((None, ABSTAIN, None), "probability", 0.3)


def test_bounds_become_aspects() -> None:
    calibration = fit_quantiles(SCORES, SCORES**2, smallest=20)
    scores = run_sync(Calibrated(ByLetter(), calibration).score(Trajectory.from_texts("p", ["a", "?", "h"])))
    for name in ("low", "high"):
        np.testing.assert_array_equal(scores.aspects[name], calibration.bounds([0.1, math.nan, 0.8])[name])
    assert (scores.aspects["low"][[0, 2]] <= scores.values[[0, 2]]).all()
    assert (scores.values[[0, 2]] <= scores.aspects["high"][[0, 2]]).all()


def test_another_models_calibration_is_refused_unless_allowed() -> None:
    calibration = fit_platt(SCORES, TARGETS, model="other")
    with pytest.raises(InputError, match=r"fitted on other, the model is by-letter.*other_model=allow"):
        Calibrated(ByLetter(), calibration)
    Calibrated(ByLetter(), calibration, other_model="allow")
    Calibrated(ByLetter(), fit_platt(SCORES, TARGETS))
    with pytest.raises(InputError, match="takes scores on the probability scale, raw gives logit"):
        Calibrated(ByLetter("raw", "logit"), fit_platt(SCORES, TARGETS))
    with pytest.raises(InputError, match="other_model"):
        Calibrated(ByLetter(), fit_platt(SCORES, TARGETS), other_model="maybe")  # type: ignore[arg-type]


def test_calibration_makes_scales_comparable() -> None:
    raw = Calibrated(ByLetter("raw", "logit"), fit_platt(SCORES * 4 - 2, TARGETS, scale="logit"))
    scores = run_sync(Ensemble([raw, ByLetter()]).score(Trajectory.from_texts("p", ["e"])))
    assert scores.scale == "probability"


@pytest.mark.parametrize("method", FITS)
def test_a_calibrated_model_is_a_reward_model(method: str) -> None:
    assert check_reward_model(Calibrated(ByLetter(), fit(method, SCORES, TARGETS)))


# --- pairs from labelled solutions


def test_pairs_stop_at_the_first_error_and_count_what_is_left_out() -> None:
    examples = [example("p", ["a", "b", "c", "d"], 1), example("q", ["?", "e"], -1), example("r", ["f"], None)]
    scores = [run_sync(ByLetter().score(row.trajectory)) for row in examples]
    pairs = step_pairs(examples, scores)
    np.testing.assert_allclose(pairs.scores, [0.1, 0.2, 0.5])
    np.testing.assert_array_equal(pairs.targets, [1.0, 0.0, 1.0])
    assert len(set(pairs.problems)) == 2
    assert (pairs.n_after_error, pairs.n_unscored, pairs.n_unlabelled, pairs.semantics) == (2, 1, 0, "prefix")


def test_labels_that_are_not_prefix_labels_count_to_the_end_and_soft_ones_stay_soft() -> None:
    trajectory = Trajectory.from_texts("p", ["a", "b", "c"])
    local = Example(trajectory, StepLabels.from_hard([True, False, True], semantics="local", first_error=1))
    np.testing.assert_array_equal(step_pairs([local], [run_sync(ByLetter().score(trajectory))]).targets, [1.0, 0.0, 1.0])
    soft = Example(trajectory, StepLabels(np.array([0.75, math.nan, 0.25]), "value", reasons=(None, "cut off", None)))
    pairs = step_pairs([soft], [run_sync(ByLetter().score(trajectory))])
    np.testing.assert_array_equal(pairs.targets, [0.75, 0.25])
    assert (pairs.n_unlabelled, pairs.semantics) == (1, "value")
    with pytest.raises(InputError, match="labels of different kinds"):
        step_pairs([local, soft], [run_sync(ByLetter().score(trajectory))] * 2)


def test_pairs_that_do_not_belong_together_are_refused() -> None:
    rows = [example("p", ["a", "b"], 0)]
    with pytest.raises(CountMismatch, match="1 labelled solutions but 0 scores"):
        step_pairs(rows, [])
    with pytest.raises(CountMismatch, match="2 labels but 1 scores"):
        step_pairs(rows, [StepScores(np.array([0.5]))])
    with pytest.raises(InputError, match="carry no labels"):
        step_pairs([example("p", ["a"], None)], [StepScores(np.array([0.5]))])


def test_the_datas_hash_ignores_order_and_sees_every_label() -> None:
    rows = [example("p", ["a", "b"], 0), example("q", ["c"], -1)]
    assert data_hash(rows) == data_hash(rows[::-1])
    assert (
        len({data_hash(rows), data_hash(rows[:1]), data_hash([example("p", ["a", "b"], 1), rows[1]]), data_hash([example("p", ["a", "x"], 0), rows[1]])}) == 4
    )


# --- vLLM


def served(logits: torch.Tensor, config: dict[str, float], activation: str) -> torch.Tensor:
    """What vLLM's token classifier does with its head's outputs [n, labels] (its documented formula, written anew)."""
    if "logit_mean" in config:
        logits = logits - config["logit_mean"]
    if "logit_sigma" in config:
        logits = logits / config["logit_sigma"]
    return torch.softmax(logits, dim=-1) if activation == "softmax" else torch.sigmoid(logits)


@pytest.mark.parametrize("scale", ["probability", "logit"])
def test_the_export_makes_a_server_return_calibrated_probabilities(scale: str) -> None:
    z = torch.linspace(-9, 9, 61, dtype=torch.float64)
    given = torch.sigmoid(z).numpy() if scale == "probability" else z.numpy()
    scores = SCORES if scale == "probability" else np.log(SCORES) - np.log1p(-SCORES)
    for method in ("temperature", "platt"):
        calibration = fit(method, scores, TARGETS, scale=scale)  # type: ignore[arg-type]
        config = vllm_pooler_config(calibration, head="sigmoid")
        np.testing.assert_allclose(served(z[:, None], config, "sigmoid")[:, 0].numpy(), calibration(given), atol=1e-12)
    two = torch.stack([torch.full_like(z, 0.3), z + 0.3], dim=-1)  # bad and good, z their difference
    temperature = fit_temperature(scores, TARGETS, scale=scale)  # type: ignore[arg-type]
    np.testing.assert_allclose(served(two, vllm_pooler_config(temperature, head="softmax"), "softmax")[:, 1].numpy(), temperature(given), atol=1e-12)


def test_a_common_shift_is_lost_in_a_softmax_so_platt_is_refused_there_and_the_remedy_works() -> None:
    z = torch.linspace(-5, 5, 21, dtype=torch.float64)
    two = torch.stack([torch.zeros_like(z), z], dim=-1)
    platt = fit_platt(SCORES, TARGETS)
    shift = vllm_pooler_config(platt, head="sigmoid")
    assert torch.equal(served(two, {"logit_mean": 0.0}, "softmax"), torch.softmax(two, -1))
    assert torch.allclose(served(two, {"logit_mean": shift["logit_mean"]}, "softmax"), torch.softmax(two, -1)), "the mean does nothing"
    with pytest.raises(InputError, match=r"changes nothing.*add (-?[\d.]+) to the bias.*logit_sigma = ([\d.]+)") as caught:
        vllm_pooler_config(platt, head="softmax")
    bias, sigma = map(float, re.findall(r"add (-?[\d.]+) to.*logit_sigma = ([\d.]+)", str(caught.value))[0])
    moved = served(two + torch.tensor([0.0, bias], dtype=torch.float64), {"logit_sigma": sigma}, "softmax")[:, 1]
    np.testing.assert_allclose(moved.numpy(), platt(torch.sigmoid(z).numpy()), atol=1e-4)


def test_what_is_not_affine_in_the_logit_is_not_exported() -> None:
    for method in ("isotonic", "beta", "quantile"):
        with pytest.raises(InputError, match="not affine"):
            vllm_pooler_config(fit(method, SCORES, TARGETS), head="sigmoid")
    with pytest.raises(InputError, match="logratio scale"):
        vllm_pooler_config(fit_platt(SCORES, TARGETS, scale="logratio"), head="sigmoid")
    with pytest.raises(InputError, match="head must be"):
        vllm_pooler_config(fit_platt(SCORES, TARGETS), head="tanh")  # type: ignore[arg-type]


# --- the command


def run(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(calibrate)
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Arithmetic that the verifier can judge, half of the claims false; labels that agree with it nine times in ten."""
    rng = np.random.default_rng(1)
    rows = []
    for number in range(40):
        right = [bool(rng.random() < 0.6) for _ in range(3)]
        texts = [f"{number} + {k} = {number + k + (0 if good else 1)}." for k, good in enumerate(right)]
        said = [good if rng.random() < 0.9 else not good for good in right]
        rows.append(Example(Trajectory.from_texts(Problem(f"problem {number}"), [*texts, "Done."]), StepLabels.from_hard([*said, True], semantics="local")))
    file = tmp_path / "labelled.jsonl"
    write_records(rows, file)
    return file


def test_the_command_writes_a_calibration_that_names_model_and_data(labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "calibration.json"
    result = run("--data", str(labelled), "--model", "tools:arithmetic", "--method", "isotonic", "--out", str(out), "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    calibration = Calibration.load(out)
    assert (calibration.model, calibration.targets, calibration.n, found["n_unscored"]) == ("tools:arithmetic/2", "local", 120, 40)
    assert calibration([0.0])[0] == pytest.approx(0.1, abs=0.1)
    assert calibration([1.0])[0] == pytest.approx(0.9, abs=0.1)
    assert found["before"]["brier"] > found["after"]["brier"]
    assert found["cross_validated"]["n"] == 120
    assert found["unscored_reasons"]
    assert found["usage"]["calls"] == 40
    again = run("--data", str(labelled), "--model", "tools:arithmetic", "--method", "isotonic", "--out", str(out), "--json")
    assert json.loads(again.stdout)["paid"]["calls"] == 0, "scores are kept in the journal beside the output"
    assert Calibration.load(out) == calibration


def test_the_command_tells_vllms_parameters_or_why_there_are_none(labelled: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(labelled), "--model", "tools:arithmetic", "--out", str(tmp_path / "c.json")]
    exported = json.loads(run(*arguments, "--method", "temperature", "--vllm", "softmax", "--json").stdout)
    assert exported["vllm"] == {"logit_sigma": exported["parameters"]["tau"]}
    refused = json.loads(run(*arguments, "--method", "platt", "--vllm", "softmax", "--json").stdout)
    assert refused["vllm"] is None
    assert "changes nothing" in refused["vllm_reason"]
    shown = run(*arguments, "--method", "platt")
    assert "cross_validated" in shown.output


def test_the_command_takes_scores_that_exist(tmp_path: Path) -> None:
    rows = [
        {"id": str(i), "split": "toy", "label": int(label), "n_steps": 3, "scored_steps": 3, "scores": {"m": values, "n": [0.5] * 3}}
        for i, (label, values) in enumerate([(1, [0.9, 0.4, 0.1]), (-1, [0.8, 0.7, 0.9]), (0, [0.2, 0.3, 0.1]), (2, [0.7, 0.6, 0.65])] * 3)
    ]
    file = tmp_path / "scores.jsonl.gz"
    with gzip.open(file, "wt") as stream:
        stream.write("\n".join(map(json.dumps, rows)))
    found = json.loads(run("--scores", str(file), "--scores-model", "m", "--method", "platt", "--out", str(tmp_path / "c.json"), "--json").stdout)
    assert (found["n_steps"], found["n_after_error"], found["base_rate"], found["model"]) == (27, 9, pytest.approx(18 / 27), "")
    assert found["cross_validated"]["brier"] < 0.25
    unknown = run("--scores", str(file), "--scores-model", "x", "--out", str(tmp_path / "c.json"))
    assert isinstance(unknown.exception, InputError)
    assert "it has: m, n" in str(unknown.exception)


def test_mistakes_are_told_before_anything_is_paid_for(labelled: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "c.json")
    for arguments, message in [
        (["--data", str(labelled), "--model", "tools:arithmetic", "--out", "c.jsonl"], "end the name"),
        (["--data", str(labelled), "--model", "tools:arithmetic", "--out", out, "--method", "magic"], "magic"),
        (["--data", str(labelled), "--out", out], "--model SPEC with --data FILE"),
        (["--data", str(labelled), "--model", "tools:arithmetic", "--out", out, "--vllm", "tanh"], "tanh"),
        (["--scores", "x.jsonl", "--model", "tools:arithmetic", "--out", out], "--scores reads"),
    ]:
        result = run(*arguments)
        assert isinstance(result.exception, InputError), result.output
        assert message in str(result.exception)
    bare = tmp_path / "bare.jsonl"
    write_records([replace(example("p", ["a"], 0), labels=None)], bare)
    assert "hold no labels" in str(run("--data", str(bare), "--model", "tools:arithmetic", "--out", out).exception)
    assert not Path(out).exists()
