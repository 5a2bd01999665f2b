from __future__ import annotations

import io

import pytest

from stepward.engine.progress import SilentProgress, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_it_shows_label_count_and_remark() -> None:
    stream = Terminal()
    with progress("label steps", total=4, stream=stream) as bar:
        for _ in range(4):
            bar.advance()
        bar.note("mean 0.5")
    shown = stream.getvalue()
    assert "label steps" in shown
    assert "4/4" in shown
    assert "mean 0.5" in shown


def test_a_total_may_be_learnt_late() -> None:
    stream = Terminal()
    with progress("train", stream=stream) as bar:
        bar.reach(3, 7)
    assert "3/7" in stream.getvalue()


@pytest.mark.parametrize(("stream", "quiet"), [(io.StringIO(), False), (Terminal(), True)])
def test_elsewhere_and_when_told_so_it_is_silent(stream: io.StringIO, quiet: bool) -> None:
    with progress("label steps", total=4, quiet=quiet, stream=stream) as bar:
        bar.advance(3)
        bar.note("x")
    assert stream.getvalue() == ""
    assert isinstance(bar, SilentProgress)
    assert bar.n_done == 3


def test_nothing_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("label steps") as bar:
        bar.advance()
    assert capsys.readouterr().out == ""
