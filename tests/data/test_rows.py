"""Reading rows: every malformed row is refused with file, line, field and reason, or set aside with them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stepward.core import FormatError, InputError
from stepward.data import SetAside, read_rows, write_rows
from stepward.data.atomic import replacing
from stepward.data.rows import first_row


def values(path: Path, **options: Any) -> list[Any]:
    return list(read_rows(path, lambda row: [row["v"]] if "v" in row else _missing(), **options))


def _missing() -> list[Any]:
    raise FormatError("missing", field="v")


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_gzip_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    data = lines({"v": 1}, {"v": 2})
    (tmp_path / "plain.gz").write_bytes(data)
    (tmp_path / "packed.jsonl").write_bytes(gzip.compress(data))
    assert values(tmp_path / "plain.gz") == values(tmp_path / "packed.jsonl") == [1, 2]


def test_marks_empty_lines_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\xef\xbb\xbf\r\n" + b'{"v": 1}\r\n\n  \n{"v": "\xe2\x80\xa8"}')
    assert values(file) == [1, "\u2028"], "a line separator inside a string ends no row"


def test_one_json_array_is_read_item_by_item(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(' [\n{"v": 1},\n{"w": 2}, {"v": 3}]')
    with pytest.raises(FormatError, match=r"a.json:2: field 'v': missing"):
        values(file)
    aside = SetAside()
    assert values(file, on_error="set_aside", set_aside=aside) == [1, 3]
    file.write_text('[{"v": 1},')
    with pytest.raises(FormatError, match="begins with '\\[' but is not one JSON array"):
        values(file)


BAD = [
    (b'{"v":', "not JSON"),
    (b"[1]", "expected a JSON object, got list"),
    (b'"text"', "expected a JSON object, got str"),
    (b'{"v": NaN}', "NaN is not a JSON number"),
    (b'{"v": -Infinity}', "-Infinity is not a JSON number"),
    (b'{"v": "\xff"}', "not UTF-8: byte 0xff at offset 7"),
    (b'{"w": 1}', "field 'v': missing"),
    (b'{"v": ' + b"9" * 5000 + b"}", "4300"),
    (b'{"v": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_a_malformed_row_is_refused_or_set_aside(tmp_path: Path, bad: bytes, reason: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(lines({"v": 1}) + bad + b"\n" + lines({"v": 3}))
    with pytest.raises(FormatError) as caught:
        values(file)
    assert (caught.value.file, caught.value.line) == (str(file), 2)
    assert reason in str(caught.value)

    aside = SetAside()
    assert values(file, on_error="set_aside", set_aside=aside) == [1, 3]
    assert [(row.line, reason in str(row) or reason in f"field {row.field!r}: {row.reason}") for row in aside] == [(2, True)]
    assert aside.summary().startswith("1 malformed rows set aside; the first: ")
    (rejected,) = aside.write()
    assert rejected == Path(f"{file}.rejected.jsonl")
    row = json.loads(rejected.read_text())
    assert (row["line"], row["row"].encode("utf-8", "surrogateescape")) == (2, bad)


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_truncated_gzip_gives_what_it_has_and_says_so(tmp_path: Path, keep: float) -> None:
    data = gzip.compress(lines(*({"v": index, "pad": str(index**9)} for index in range(3000))))
    file = tmp_path / "cut.jsonl.gz"
    file.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(FormatError, match=r"cut.jsonl.gz:\d+: the gzip stream ends early"):
        values(file)
    aside = SetAside()
    got = values(file, on_error="set_aside", set_aside=aside)
    assert got == list(range(len(got)))
    assert len(aside) == 1


def test_a_damaged_gzip_is_an_error_too(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(lines(*({"v": index} for index in range(1000)))))
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.gz").write_bytes(bytes(data))
    with pytest.raises(FormatError, match=r"gzip stream is damaged|not JSON|ends early"):
        values(tmp_path / "a.gz")


def test_other_compressions_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.zst").write_bytes(b"\x28\xb5\x2f\xfdabc")
    with pytest.raises(FormatError, match="Zstandard compression is not supported"):
        values(tmp_path / "a.zst")


def test_options_that_do_not_fit_and_missing_files_are_refused_at_the_call(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file: '.*gone\.jsonl'"):
        read_rows(tmp_path / "gone.jsonl", lambda row: [row])
    (tmp_path / "a").write_bytes(b"")
    for options in ({"on_error": "set_aside"}, {"set_aside": SetAside()}, {"on_error": "ignore"}):
        with pytest.raises(InputError, match="set_aside"):
            read_rows(tmp_path / "a", lambda row: [row], **options)  # type: ignore[arg-type]
    assert values(tmp_path / "a") == []
    assert first_row(tmp_path / "a") is None


def test_reading_streams(tmp_path: Path) -> None:
    """A bad last row does not keep the first from being used."""
    file = tmp_path / "a.jsonl"
    file.write_bytes(lines({"v": 1}) + b"broken")
    assert next(read_rows(file, lambda row: [row["v"]])) == 1


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    assert write_rows([{"v": 1}], file) == 1
    before = file.read_bytes()

    def failing() -> Iterator[dict[str, int]]:
        yield {"v": 2}
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_rows(failing(), file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert values(file) == [1]


def test_equal_rows_give_equal_bytes_and_new_folders_are_made(tmp_path: Path) -> None:
    for name in ("one/a.jsonl.gz", "two/b.jsonl.gz"):
        write_rows([{"v": "é\ud800"}, {"v": "é"}], tmp_path / name)
    assert (tmp_path / "one/a.jsonl.gz").read_bytes() == (tmp_path / "two/b.jsonl.gz").read_bytes()
    assert values(tmp_path / "one/a.jsonl.gz") == ["é\ud800", "é"]


def test_nan_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="write an unknown number as null"):
        write_rows([{"v": float("nan")}], tmp_path / "a.jsonl")
    with replacing(tmp_path / "b") as stream:
        stream.write(b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
