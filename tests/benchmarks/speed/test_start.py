"""The start, in processor time against that of a bare interpreter."""

from edgecell.benchmarks.speed.start import cpu_s, first_result_s


def test_help_takes_at_most_five_bare_interpreters() -> None:
    bare, full = cpu_s(["-c", ""]), cpu_s(["-m", "edgecell", "--help"])
    assert bare < full <= 5 * bare


def test_a_first_result_comes() -> None:
    assert first_result_s(runs=1) > 0
