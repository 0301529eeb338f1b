import io
from dataclasses import replace

import pypdf

from edgecell import RESEARCH_USE
from edgecell.edge.report.content import Line, View
from edgecell.edge.report.pdf import report_pdf

FIGURES = (("12", "24.0", "10.0-40.0"),) * 3
VIEW = View(
    sample="S-17 / Łódź",
    signed=True,
    standing="Version 1, signed by Ángel Žižek, 2026-11-26 14:00 UTC",
    caveat="",
    lines=tuple(Line(f"C{i}", "a class", FIGURES, 0) for i in range(16)),
    totals=(("White cells", ("50", "60", "55")),),
    facts=(("Model", "ab" * 32), ("Comment", "μ ≥ 2 " * 120)),
)


def pages(view: View) -> list[str]:

    reader = pypdf.PdfReader(io.BytesIO(report_pdf(view)))
    return [page.extract_text() for page in reader.pages]


def test_the_report_is_one_page_that_says_all() -> None:
    (page,) = pages(VIEW)
    for said in ("S-17 / Łódź", "Ángel Žižek", "10.0-40.0", "ab" * 32, "μ ≥ 2"):
        assert said in page
    assert page.count(RESEARCH_USE) == 2
    assert [line.code for line in VIEW.lines if line.code not in page] == []


def test_what_is_not_known_yet_stands_on_the_page() -> None:
    (page,) = pages(replace(VIEW, caveat="9 cells wait", signed=False))
    assert "9 cells wait" in page


def test_an_address_of_any_length_leaves_it_one_page() -> None:
    long = replace(VIEW, facts=(("Source", "x/" * 5000),))
    assert len(pages(long)) == 1
