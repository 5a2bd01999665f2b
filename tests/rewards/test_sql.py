"""SQL in steps is run, compared and never trusted."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stepward.core import InputError, Problem, Trajectory
from stepward.engine.loop import run_sync
from stepward.engine.workers import Limits
from stepward.labeling.perturb.sql import corrupt_sql, corruptions
from stepward.rewards.sql import SqlVerifier, queries_in
from stepward.rewards.sql.compare import arrangement, key_places, plain_rows
from stepward.rewards.sql.query import constants, statements, tail_of
from stepward.rewards.verifiers import State, StepContext, StepVerdict, combine

CITIES = {"columns": ["name", "state", "population"], "rows": [["A", "x", 10], ["B", "x", 20], ["C", "y", 30], ["D", None, 40]]}


@pytest.fixture(scope="module")
def verifier() -> SqlVerifier:
    return SqlVerifier(mutants=6)


@pytest.fixture(scope="module")
def city_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("sql") / "cities.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE city (name TEXT PRIMARY KEY, state TEXT, population INTEGER)")
        connection.executemany("INSERT INTO city VALUES (?, ?, ?)", CITIES["rows"])
    connection.close()
    return str(path)


def judged(verifier: SqlVerifier, text: str, database: dict[str, Any], answer: str | None = None, finished: bool = True) -> StepVerdict:
    problem = Problem("How many?", answer=answer, metadata=database)
    trajectory = Trajectory.from_texts(problem, [text], finished=finished)
    return combine(run_sync(verifier.verify(StepContext(trajectory, 0))))


@pytest.fixture(params=["sqlite", "duckdb"])
def database(request: pytest.FixtureRequest, city_file: str) -> dict[str, Any]:
    return {"database": {"sqlite": city_file}} if request.param == "sqlite" else {"tables": {"city": CITIES}}


@pytest.mark.parametrize(
    ("text", "state", "kind"),
    [
        ("```sql\nSELECT name FROM city\n```", State.SUPPORTED, None),
        ("I look:\n\nSELECT name FROM city WHERE state = 'x';\n\nGood.", State.SUPPORTED, None),
        ("```sql\nSELECT nme FROM city\n```", State.REFUTED, "query"),
        ("```sql\nSELECT name FROM town\n```", State.REFUTED, "query"),
        ("```sql\nSELECT name FRM city WHERE\n```", State.REFUTED, "query"),
        ("```sql\nSELECT COUNT(*) FROM city\n```\nThe result is 4.", State.SUPPORTED, None),
        ("```sql\nSELECT COUNT(*) FROM city\n```\nThe result is 5.", State.REFUTED, "stated result"),
        ("```sql\nSELECT COUNT(*) FROM city\n```\nThe result is about 5.", State.SUPPORTED, None),
        ("```sql\nSELECT AVG(population) / 3.0 FROM city\n```\nThis gives 8.33.", State.SUPPORTED, None),
        ("```sql\nSELECT AVG(population) / 3.0 FROM city\n```\nThis gives 8.43.", State.REFUTED, "stated result"),
        ("```sql\nSELECT name FROM city WHERE state = 'x'\n```\nIt returns 2 rows.", State.SUPPORTED, None),
        ("```sql\nSELECT name FROM city WHERE state = 'x'\n```\nIt returns 3 rows.", State.REFUTED, "stated result"),
        ("```sql\nSELECT name, state FROM city\n```\nThe answer is 7.", State.SUPPORTED, None),
        ("Nothing to run: select wisely.", State.ABSTAIN, None),
    ],
)
def test_queries_are_run_and_what_is_said_of_them_is_checked(
    verifier: SqlVerifier, database: dict[str, Any], text: str, state: State, kind: str | None
) -> None:
    verdict = judged(verifier, text, database)
    assert (verdict.state, verdict.kind) == (state, kind), verdict


@pytest.mark.parametrize(
    "said",
    [
        "The answer to part 2 is 4.",
        "The result has 1 digit.",
        "The value in 2020 was 3, and now it is 4.",
        "The value of 7 less 3.",
        "The output is 1 row.",
        "The result is 2 times 2.",
        "The result is 3 more than 1.",
        "The result is 4 and not 5.",
        "The result is not 5.",
        "This returns the 3 largest and the other.",
        "The table has 5 rows in all, it seems.",
        "There are 6 rows in the other table.",
        "It does not return 3 rows.",
        "If it gives 3 rows, something is wrong.",
    ],
)
def test_nothing_true_that_is_said_behind_a_query_is_refuted(verifier: SqlVerifier, database: dict[str, Any], said: str) -> None:
    verdict = judged(verifier, f"```sql\nSELECT COUNT(*) FROM city\n```\n{said}", database)
    assert verdict.state is State.SUPPORTED, verdict


@pytest.mark.parametrize(
    "text",
    [
        "SELECT the rows first, then count them.",
        "SELECT COUNT(*) FROM city\nThis gives the number of cities.",
        "```sql\nSELECT ... FROM city WHERE ...\n```",
        "```sql\nSELECT name FROM city WHERE <condition>\n```",
        "```mysql\nSELECT SQL_NO_CACHE name FROM city\n```",
    ],
)
def test_prose_templates_and_other_dialects_are_not_refuted(verifier: SqlVerifier, database: dict[str, Any], text: str) -> None:
    assert judged(verifier, text, database).state is not State.REFUTED


def test_many_columns_in_another_order_are_abstained_from(verifier: SqlVerifier, city_file: str) -> None:
    database = {"database": {"sqlite": city_file}}
    reference = "SELECT name, state, population, name, state, population + 1 FROM city"
    told = judged(verifier, "```sql\nSELECT state, name, population + 1, name, state, population FROM city\n```", database, reference)
    assert [verdict.state for verdict in told.verdicts if verdict.kind == "answer"] == [State.ABSTAIN]
    other = judged(verifier, "```sql\nSELECT state, name, population + 2, name, state, population FROM city\n```", database, reference)
    assert [verdict.state for verdict in other.verdicts if verdict.kind == "answer"] == [State.REFUTED]


def test_mutants_keep_foreign_keys_and_checks(verifier: SqlVerifier, tmp_path: Path) -> None:
    path = tmp_path / "shop.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE buyer (id INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("CREATE TABLE sale (id INTEGER PRIMARY KEY, buyer INTEGER NOT NULL REFERENCES buyer(id), price INTEGER CHECK (price > 0))")
        connection.executemany("INSERT INTO buyer VALUES (?, ?)", [(n, f"b{n}") for n in range(8)])
        connection.executemany("INSERT INTO sale VALUES (?, ?, ?)", [(n, n % 8, 1 + n % 2) for n in range(30)])
    connection.close()
    database = {"database": {"sqlite": str(path)}}
    for mine, reference in [
        ("SELECT COUNT(*) FROM sale", "SELECT COUNT(*) FROM sale JOIN buyer ON sale.buyer = buyer.id"),
        ("SELECT COUNT(*) FROM sale", "SELECT COUNT(*) FROM sale WHERE price > 0"),
    ]:
        assert judged(verifier, f"```sql\n{mine}\n```", database, reference).state is State.SUPPORTED


@pytest.mark.parametrize(
    ("query", "state"),
    [
        ("SELECT name FROM city WHERE population > 15 ORDER BY population", State.SUPPORTED),
        ("SELECT name FROM city WHERE NOT population <= 15 ORDER BY population ASC", State.SUPPORTED),
        ("SELECT name FROM city WHERE population > 15 ORDER BY population DESC", State.ABSTAIN),  # the order cannot be seen in the names
        ("SELECT name FROM city WHERE population > 16 ORDER BY population", State.REFUTED),  # a mutant has 16
        ("SELECT name FROM city WHERE population > 25 ORDER BY population", State.REFUTED),
        ("SELECT name, population FROM city WHERE population > 15 ORDER BY population", State.ABSTAIN),
        ("SELECT state FROM city WHERE population > 15 ORDER BY population", State.REFUTED),
    ],
)
def test_a_last_query_is_compared_with_the_reference_on_changed_databases_too(verifier: SqlVerifier, city_file: str, query: str, state: State) -> None:
    reference = "SELECT name FROM city WHERE population > 15 ORDER BY population"
    told = judged(verifier, f"```sql\n{query}\n```", {"database": {"sqlite": city_file}}, reference)
    answers = [verdict.state for verdict in told.verdicts if verdict.kind == "answer"]
    assert answers == [state], told
    unfinished = judged(verifier, f"```sql\n{query}\n```", {"database": {"sqlite": city_file}}, reference, finished=False)
    assert [verdict.kind for verdict in unfinished.verdicts] == ["query"], "a step that is not the last claims no answer"


def test_any_of_several_references_will_do_and_limits_may_cut_ties_differently(verifier: SqlVerifier, city_file: str) -> None:
    database = {"database": {"sqlite": city_file}}
    assert judged(verifier, "```sql\nSELECT 'B'\n```", database, "SELECT 'A'; SELECT 'B'").state is State.SUPPORTED
    reference = "SELECT name, state FROM city ORDER BY state LIMIT 2"
    assert judged(verifier, "```sql\nSELECT name, state FROM city ORDER BY state, name DESC LIMIT 2\n```", database, reference).state is not State.REFUTED
    assert judged(verifier, "```sql\nSELECT name, state FROM city ORDER BY state DESC LIMIT 2\n```", database, reference).state is State.REFUTED


@pytest.mark.parametrize(
    "attack",
    [
        "WITH x AS (SELECT 1) DELETE FROM city",
        "SELECT load_extension('x')",
        "SELECT readfile('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT 1; DROP TABLE city",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "SELECT randomblob(1000000000)",
        "SELECT repeat('x', 2000000000)",
    ],
)
def test_attacks_change_nothing_and_come_back(database: dict[str, Any], city_file: str, attack: str) -> None:
    quick = SqlVerifier(limits=Limits(time_limit_s=1.0, memory_limit_mb=2048))
    before = Path(city_file).read_bytes()
    verdict = judged(quick, f"```sql\n{attack}\n```", database)
    assert verdict.state is not State.SUPPORTED, verdict
    assert "root:" not in str(verdict)
    assert Path(city_file).read_bytes() == before
    assert judged(quick, "```sql\nSELECT name FROM city\n```\nIt returns 4 rows.", database).state is State.SUPPORTED
    quick._pool.close()


def test_what_stands_in_a_step_is_read_as_it_is_written() -> None:
    fenced = "First\n```sqlite\nSELECT 1;\n```\nwhich is 1\n\nSELECT 2"
    assert [query.text for query in queries_in(fenced)] == ["SELECT 1"], "code that is marked goes first"
    assert [query.text for query in queries_in("SELECT 1\n\nWITH a AS (SELECT 2) SELECT * FROM a;")] == ["SELECT 1", "WITH a AS (SELECT 2) SELECT * FROM a"]
    assert queries_in("Select the largest with care.") == []
    assert statements("SELECT ';' AS a; -- no; comment\nSELECT 2") == ["SELECT ';' AS a", "-- no; comment\nSELECT 2"]
    tail = tail_of("SELECT a FROM (SELECT a FROM t ORDER BY b LIMIT 3) ORDER BY f(a, 'x,y') DESC, 2 NULLS LAST LIMIT 5 OFFSET 1")
    assert tail.order == ("f(a, 'x,y')", "2")
    assert tail.without_limit == "SELECT a FROM (SELECT a FROM t ORDER BY b LIMIT 3) ORDER BY f(a, 'x,y') DESC, 2 NULLS LAST"
    assert tail_of("SELECT a FROM t").order == ()
    assert constants("SELECT 1 FROM t2 WHERE a LIKE '%it''s%' AND b > 2.5") == [1, "it's", 2.5]
    assert key_places(["1", "t.Name", "missing"], ["id", "name"]) is None
    assert key_places(["1", "t.Name"], ["id", "name"]) == (0, 1)


def test_rows_are_equal_up_to_the_order_of_columns_and_the_last_digits() -> None:
    assert plain_rows([(1.0, 0.1 + 0.2, None, "a")]) == [(1, 0.3, None, "a")]
    assert arrangement([(1, "a"), (2, "b")], [("b",), ("a",)]) == (1,)
    assert arrangement([(1, "a"), (2, "b")], [("b", 2), ("a", 2)]) is None
    assert arrangement([], [(1,)]) is None


def test_perturbations_change_one_thing_and_say_which() -> None:
    query = "SELECT DISTINCT name FROM city WHERE population > 15 AND state = 'x' GROUP BY name ORDER BY name DESC LIMIT 3"
    kinds = Counter(one.kind for one in corruptions(query))
    assert set(kinds) == {"comparison", "literal", "connective", "direction", "condition", "grouping", "order", "distinct", "limit"}
    assert len({one.query for one in corruptions(query)}) == sum(kinds.values())
    assert corrupt_sql(query, seed=1) == corrupt_sql(query, seed=1)
    assert corruptions("SELECT '1 > 2 AND 3' -- WHERE x = 1") == []
    with pytest.raises(InputError, match="mutants"):
        SqlVerifier(mutants=-1)


def test_gold_queries_are_supported_and_their_perturbations_refuted(shared_data: Path) -> None:
    file = shared_data / "sql" / "questions.jsonl.gz"
    verifier = SqlVerifier()
    with gzip.open(file, "rt") as stream:
        rows = [json.loads(line) for line in stream]
    gold: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for number, row in enumerate(rows):
        database = {"database": {"sqlite": str(shared_data / "sql" / f"{row['db_name']}.sqlite")}}
        query = row["query"].split(";")[0]
        state = judged(verifier, f"```sql\n{query}\n```", database, row["query"]).state
        gold[state] += 1
        if state is State.SUPPORTED and number % 2 == 0 and (changed := corrupt_sql(query, seed=number)):
            wrong[judged(verifier, f"```sql\n{changed.query}\n```", database, row["query"]).state] += 1
    assert (gold[State.SUPPORTED], gold[State.REFUTED]) == (190, 0)
    assert wrong[State.REFUTED] >= 0.85 * sum(wrong.values()), "about 9 in 10; benchmarks/domains.py prints the exact share"
