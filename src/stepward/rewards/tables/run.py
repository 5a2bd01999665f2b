"""The worker's task: a cell or an aggregate of a column, computed by DuckDB in exact decimals."""

from __future__ import annotations

from typing import Any

_FUNCTIONS = {"sum": "SUM", "mean": "AVG", "max": "MAX", "min": "MIN"}


def aggregate(request: dict[str, Any]) -> dict[str, Any]:
    """{cells: number texts, function} -> {numerator, denominator}: the exact value as a fraction of integers, in texts."""
    import duckdb

    scale = max((len(cell.partition(".")[2]) for cell in request["cells"]), default=0)
    whole = [int(cell.replace(".", "") + "0" * (scale - len(cell.partition(".")[2]))) for cell in request["cells"]]
    connection = duckdb.connect(":memory:", config={"threads": "1", "enable_external_access": "false"})
    connection.execute("CREATE TABLE cells (v HUGEINT)")
    connection.executemany("INSERT INTO cells VALUES (?)", [(value,) for value in whole])
    function = _FUNCTIONS[request["function"]]
    asked = "SUM(v), COUNT(v)" if function == "AVG" else f"{function}(v), 1"
    row = connection.execute(f"SELECT {asked} FROM cells").fetchone()
    connection.close()
    assert row is not None
    return {"numerator": str(int(row[0])), "denominator": str(int(row[1]) * 10**scale)}
