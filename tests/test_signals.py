import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecell.signals import held_back, on_stop

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


def test_what_is_being_loaded_is_not_interrupted() -> None:
    loaded = []

    def load() -> None:
        with held_back(), held_back():
            signal.raise_signal(signal.SIGINT)
            loaded.append(True)

    with pytest.raises(KeyboardInterrupt):
        load()
    assert loaded
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_the_second_ctrl_c_interrupts_what_is_being_loaded() -> None:
    def load() -> None:
        with held_back():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("it waits for nothing")

    with pytest.raises(KeyboardInterrupt):
        load()


def test_an_ignored_ctrl_c_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with held_back():
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_other_threads_leave_ctrl_c_to_the_main_one() -> None:
    seen = []

    def load() -> None:
        with held_back():
            seen.append(signal.getsignal(signal.SIGINT))

    loading = threading.Thread(target=load)
    loading.start()
    loading.join()
    assert seen == [signal.default_int_handler]


@pytest.mark.parametrize("module", ["numpy", "ai_edge_litert.interpreter"])
def test_ctrl_c_while_a_run_starts_ends_it(tmp_path: Path, module: str) -> None:
    pytest.importorskip(module)
    hook = f"""
# As C++ does where Python is interrupted: the import fails in another way.
import importlib.abc, signal, sys
class Interrupted(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise ImportError("initialization failed")
sys.meta_path.insert(0, Interrupted())
from edgecell.cli import cli
cli(["run", "demo", "--out", sys.argv[1]])
"""
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", hook, str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.strip()) == (1, "Aborted!"), done.stdout
    assert not out.exists()
