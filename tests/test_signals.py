import signal
from collections.abc import Iterator

import pytest

from edgecell.signals import on_stop

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def _as_in_a_terminal() -> Iterator[None]:
    """Whatever started the tests: it may ignore some signals, as nohup does."""
    before = [signal.signal(n, signal.SIG_DFL) for n in SIGNALS]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_ends_in_good_order(number: signal.Signals) -> None:
    before = [signal.getsignal(n) for n in SIGNALS]
    asked: list[bool] = []
    with on_stop(lambda: asked.append(True)):
        signal.raise_signal(number)
        assert asked == [True]
        assert signal.getsignal(number) == before[SIGNALS.index(number)], "the next"
    assert [signal.getsignal(n) for n in SIGNALS] == before


def test_under_nohup_a_closed_terminal_ends_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asked: list[bool] = []
    try:
        with on_stop(lambda: asked.append(True)):
            signal.raise_signal(signal.SIGHUP)
        assert asked == []
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_a_script_starts_in_the_background_ends_on_sigint() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked: list[bool] = []
    try:
        with on_stop(lambda: asked.append(True)):
            signal.raise_signal(signal.SIGINT)
        assert asked == [True]
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
