import os
import threading

import pytest

from edgecell.quiet import quiet_stderr


def test_nothing_inside_everything_after(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_stderr():
        os.write(2, b"inside\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_threads_and_exceptions_give_stderr_back(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def work() -> None:
        for _ in range(50):
            try:
                with quiet_stderr():
                    raise OSError
            except OSError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
