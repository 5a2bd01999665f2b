"""Usage adds up, ledgers nest, sampling settings are checked, errors travel between processes."""

from __future__ import annotations

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from tests.strategies import usages

from stepward.core import (
    CountMismatch,
    Example,
    FormatError,
    InputError,
    MissingExtra,
    RequestFailed,
    RequestRetryable,
    Sampling,
    StepLabels,
    StepwardError,
    TokenLogprobs,
    Trajectory,
    Until,
    Usage,
    charge,
    metered,
)


@settings(max_examples=50, deadline=None)
@given(usages, usages)
def test_usage_adds_field_by_field(a: Usage, b: Usage) -> None:
    assert (a + b).policy_tokens == a.policy_tokens + b.policy_tokens
    assert a + b == b + a == Usage.total([a, b])
    assert a + Usage() == a
    assert bool(a) == (a != Usage())
    assert Usage.from_record(a.to_record()) == a


def test_unknown_usage_fields_are_refused() -> None:
    with pytest.raises(FormatError, match="gold"):
        Usage.from_record({"gold": 1})


def test_ledgers_nest_and_tell_paid_from_replayed() -> None:
    charge(Usage(calls=100))  # no ledger is open: nothing happens
    with metered() as outer:
        charge(Usage(calls=1))
        with metered() as inner:
            charge(Usage(calls=2))
            charge(Usage(calls=4), replayed=True)
        charge(Usage(calls=8))
    charge(Usage(calls=100))
    assert (inner.usage.calls, inner.paid.calls) == (6, 2)
    assert (outer.usage.calls, outer.paid.calls) == (15, 11)


def test_tasks_inherit_the_ledger_and_threads_can_share_it() -> None:
    async def work() -> None:
        charge(Usage(calls=1))

    async def main() -> int:
        with metered() as ledger:
            await asyncio.gather(*(asyncio.create_task(work()) for _ in range(10)))
        return ledger.usage.calls

    assert asyncio.run(main()) == 10
    with metered() as ledger, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ledger.charge(Usage(calls=1)), range(500)))
    assert ledger.usage.calls == ledger.paid.calls == 500


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("inf")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("max_tokens", 0),
        ("max_steps", 0),
        ("max_step_tokens", 0),
    ],
)
def test_impossible_sampling_settings_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"Sampling\.{field} must.*{value}"):
        Sampling(**{field: value})  # type: ignore[arg-type]


def test_sampling_survives_its_record() -> None:
    sampling = Sampling(temperature=0.0, top_p=0.9, seed=7)
    assert Sampling.from_record(sampling.to_record()) == sampling
    assert Until("end") is Until.END
    with pytest.raises(FormatError, match="heat"):
        Sampling.from_record({"heat": 1.0})


def test_users_mistakes_are_value_errors_and_all_errors_are_ours() -> None:
    for kind in (InputError, FormatError, CountMismatch):
        assert issubclass(kind, ValueError)
        assert issubclass(kind, StepwardError)
    assert issubclass(MissingExtra, ImportError)
    assert issubclass(RequestRetryable, RequestFailed)


def test_a_format_error_names_file_line_field_and_reason() -> None:
    error = FormatError("not a number", file="a.jsonl", line=3, field="label")
    assert str(error) == "a.jsonl:3: field 'label': not a number"
    assert str(FormatError("broken")) == "broken"


@pytest.mark.parametrize("error", [FormatError("r", file="f", line=2, field="x"), MissingExtra("z3", "logic"), InputError("bad"), CountMismatch("2 and 3")])
def test_errors_travel_between_processes(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_a_missing_extra_is_one_install_line() -> None:
    assert str(MissingExtra("accelerate", "train")) == "accelerate is not installed; run: pip install 'stepward[train]'"
    assert RequestRetryable("busy", retry_after_s=2.0).retry_after_s == 2.0


def test_token_logprobs_sum_over_steps() -> None:
    assert TokenLogprobs(((-1.0, -2.0), (), (-0.5,))).total == -3.5


def test_an_example_has_one_label_a_step_and_an_id() -> None:
    trajectory = Trajectory.from_texts("p", ["a", "b"])
    assert Example(trajectory).id == trajectory.key
    with pytest.raises(CountMismatch, match=r"2 steps but 1 labels"):
        Example(trajectory, StepLabels.from_hard([True], semantics="local"))
