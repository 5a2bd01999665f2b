"""Whatever happens to the bytes of the file, the journal opens, keeps what can be read, reports, and never returns a wrong result."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

import pytest
from tests.engine.test_journal import entry

from stepward.engine.entry import Entry
from stepward.engine.journal import Journal
from stepward.engine.salvage import rows_of_file

N = 400
ENTRIES = [entry(index, size=(index * 97) % 3000 if index % 5 else 9000 + index) for index in range(N)]
BY_KEY = {made.key: made for made in ENTRIES}


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal file with N records, closed cleanly."""
    path = tmp_path_factory.mktemp("closed") / "j.sqlite"
    with Journal(path) as journal:
        for start in range(0, N, 50):
            asyncio.run(journal.put_many(ENTRIES[start : start + 50]))
    return path


@pytest.fixture(scope="module")
def abandoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What kill -9 leaves: a file and its write-ahead log."""
    folder = tmp_path_factory.mktemp("abandoned")
    with Journal(folder / "live.sqlite") as journal:
        for start in range(0, N, 50):
            asyncio.run(journal.put_many(ENTRIES[start : start + 50]))
        for suffix in ("", "-wal"):
            shutil.copyfile(folder / f"live.sqlite{suffix}", folder / f"j.sqlite{suffix}")
    return folder / "j.sqlite"


def copy(source: Path, folder: Path) -> Path:
    for suffix in ("", "-wal"):
        if Path(f"{source}{suffix}").exists():
            shutil.copyfile(f"{source}{suffix}", folder / f"j.sqlite{suffix}")
    return folder / "j.sqlite"


def recovered(path: Path) -> tuple[dict[str, Entry], Journal]:
    """Read everything, compute the missing again, and check that the journal is whole afterwards."""
    with Journal(path) as journal:
        found = asyncio.run(journal.get_many(list(BY_KEY)))
        missing = [made for made in ENTRIES if made.key not in found]
        assert asyncio.run(journal.put_many(missing)) == missing
        assert asyncio.run(journal.get_many(list(BY_KEY))) == BY_KEY
        n_set_aside = journal.verify().n_set_aside  # what no read has met yet, such as a flipped key that the index still has right
        left = asyncio.run(journal.get_many(list(BY_KEY)))
        assert len(left) >= N - n_set_aside
        assert all(BY_KEY[key] == value for key, value in left.items())
        asyncio.run(journal.put_many(ENTRIES))
        assert asyncio.run(journal.get_many(list(BY_KEY))) == BY_KEY
    with Journal(path) as again:
        assert again.verify().ok, again.verify()
    return found, journal


def test_salvage_reads_every_record_from_the_bare_pages(closed: Path) -> None:
    rows = [row[1:] for row in rows_of_file(closed) if len(row) == 8]
    assert {Entry.from_row(row).key for row in rows} == set(BY_KEY)


@pytest.mark.parametrize("seed", range(25))
def test_flipped_bytes_never_change_a_result(closed: Path, tmp_path: Path, seed: int) -> None:
    path = copy(closed, tmp_path)
    draw = random.Random(seed)
    data = bytearray(path.read_bytes())
    for _ in range(draw.choice([1, 3, 30, 300])):
        data[draw.randrange(100, len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    found, _ = recovered(path)
    assert all(BY_KEY[key] == value for key, value in found.items())


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9, 0.999])
def test_a_file_cut_short_keeps_what_is_left(closed: Path, tmp_path: Path, share: float) -> None:
    path = copy(closed, tmp_path)
    size = int(path.stat().st_size * share)
    with path.open("r+b") as file:
        file.truncate(size)
    found, journal = recovered(path)
    assert all(BY_KEY[key] == value for key, value in found.items())
    assert len(found) >= 0.5 * share * N - 5
    assert any("damaged" in report for report in journal._file.reports)
    assert list(tmp_path.glob("j.sqlite.damaged-*"))


def test_a_destroyed_header_costs_at_most_the_first_page(closed: Path, tmp_path: Path) -> None:
    path = copy(closed, tmp_path)
    with path.open("r+b") as file:
        file.write(random.Random(0).randbytes(4096))
    found, journal = recovered(path)
    assert len(found) == N
    assert f"saved {N} records" in " ".join(journal._file.reports)


def test_wiped_pages_in_the_middle_cost_their_own_records_only(closed: Path, tmp_path: Path) -> None:
    path = copy(closed, tmp_path)
    n_pages = path.stat().st_size // 4096
    with path.open("r+b") as file:
        for number in (n_pages // 3, n_pages // 2):
            file.seek(4096 * number)
            file.write(b"\xa5" * 4096)
    found, _ = recovered(path)
    assert N - 60 <= len(found) <= N


def test_an_undisturbed_log_loses_nothing(abandoned: Path, tmp_path: Path) -> None:
    found, journal = recovered(copy(abandoned, tmp_path))
    assert len(found) == N
    assert journal._file.reports == []


def test_garbage_in_the_log_costs_the_records_under_it_and_not_those_behind_it(abandoned: Path, tmp_path: Path) -> None:
    path = copy(abandoned, tmp_path)
    log = Path(f"{path}-wal")
    size = log.stat().st_size
    with log.open("r+b") as file:
        file.seek(size // 3)
        file.write(random.Random(1).randbytes(300))
    found, journal = recovered(path)
    assert len(found) >= N - 12
    assert any("write-ahead log" in report for report in journal._file.reports)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.77])
def test_a_log_cut_short_never_yields_a_wrong_result(abandoned: Path, tmp_path: Path, share: float) -> None:
    path = copy(abandoned, tmp_path)
    log = Path(f"{path}-wal")
    with log.open("r+b") as file:
        file.truncate(int(log.stat().st_size * share))
    found, _ = recovered(path)
    assert all(BY_KEY[key] == value for key, value in found.items())


def test_an_emptied_file_beside_its_log_starts_again_with_what_the_log_holds(abandoned: Path, tmp_path: Path) -> None:
    path = copy(abandoned, tmp_path)
    path.write_bytes(b"")
    found, _ = recovered(path)
    assert len(found) == N


def test_damage_while_the_journal_is_open_is_repaired_in_place(closed: Path, tmp_path: Path) -> None:
    path = copy(closed, tmp_path)
    with Journal(path) as journal, Journal(path) as other:
        data = bytearray(path.read_bytes())
        for page in range(1, len(data) // 4096):
            if page % 3 == 1:
                data[4096 * page : 4096 * page + 8] = b"\xff" * 8
        with path.open("r+b") as file:
            file.write(data)
        found = asyncio.run(journal.get_many(list(BY_KEY)))
        assert all(BY_KEY[key] == value for key, value in found.items())
        missing = [made for made in ENTRIES if made.key not in found]
        assert asyncio.run(journal.put_many(missing)) == missing
        assert asyncio.run(other.get_many(list(BY_KEY))) == BY_KEY  # follows to the new file
        assert journal.verify().n_good == N


def test_an_interrupted_repair_is_finished_by_the_next_opening(closed: Path, tmp_path: Path) -> None:
    path = copy(closed, tmp_path)
    shutil.copyfile(path, tmp_path / "j.sqlite.salvage")
    with path.open("r+b") as file:
        file.truncate(8192)
    found, _ = recovered(path)
    assert len(found) == N
    assert not (tmp_path / "j.sqlite.salvage").exists()
