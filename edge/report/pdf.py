"""The report as a PDF of one A4 page, with nothing but fpdf2."""

from pathlib import Path

from fpdf import FPDF
from fpdf.enums import TableBordersLayout
from fpdf.fonts import FontFace

from edgecell import RESEARCH_USE
from edgecell.edge.count.readings import NAMES
from edgecell.edge.report.content import Line, View
from edgecell.edge.report.texts import text

_FONTS = Path(__file__).parent / "fonts"
_INK = (29, 26, 38)
_MUTED = (100, 93, 115)
_BRAND = (91, 42, 134)
_SOFT = (239, 231, 245)
_WAIT = (180, 83, 9)
_MARGIN_MM = 15
_CLASS_MM = 48
_FIGURE_MM = (11, 12, 21)


def report_pdf(view: View) -> bytes:
    """Draws a report.

    Args:
        view: what it shows.

    Returns:
        A PDF file of one page.
    """
    pdf = FPDF(format="A4")
    pdf.set_margin(_MARGIN_MM)
    pdf.set_auto_page_break(False)
    pdf.add_font("DejaVu", "", _FONTS / "DejaVuSans.ttf")
    pdf.add_font("DejaVu", "B", _FONTS / "DejaVuSans-Bold.ttf")
    pdf.set_title(f"{text('report.heading')} {view.sample}".strip())
    pdf.set_creator("edgecell")
    pdf.add_page()
    _head(pdf, view)
    _table(pdf, view)
    _caveat(pdf, view)
    _facts(pdf, view)
    _foot(pdf)
    return bytes(pdf.output())


def _font(pdf: FPDF, size: float, bold: bool = False, colour: object = _INK) -> None:
    pdf.set_font("DejaVu", "B" if bold else "", size)
    pdf.set_text_color(*colour)  # type: ignore[misc]


def _head(pdf: FPDF, view: View) -> None:
    _font(pdf, 15, True, _BRAND)
    pdf.cell(0, 8, text("report.heading"), new_x="LMARGIN", new_y="NEXT")
    _font(pdf, 9, True, _WAIT)
    pdf.cell(0, 5, RESEARCH_USE, new_x="LMARGIN", new_y="NEXT")
    _font(pdf, 10)
    sample = view.sample or text("report.empty")
    pdf.cell(0, 7, f"{text('report.sample')}: {sample}", new_x="LMARGIN", new_y="NEXT")
    _font(pdf, 9, True, _INK if view.signed else _WAIT)
    pdf.multi_cell(0, 5, view.standing, align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.ln(2)


def _table(pdf: FPDF, view: View) -> None:
    _font(pdf, 8)
    pdf.set_draw_color(200, 192, 212)
    with pdf.table(
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        col_widths=(_CLASS_MM, *_FIGURE_MM * len(NAMES)),
        headings_style=FontFace(emphasis="BOLD", fill_color=_SOFT),
        line_height=5,
        num_heading_rows=2,
        text_align=("LEFT", *("RIGHT",) * 3 * len(NAMES)),
    ) as table:
        heads = table.row()
        heads.cell(text("report.class"), rowspan=2)
        for key in NAMES:
            heads.cell(text(f"report.{key}"), colspan=3, align="CENTER")
        columns = table.row()
        for _ in NAMES:
            for name in ("n", "percent", "interval"):
                columns.cell(text(f"report.{name}"))
        for line in view.lines:
            _row(table, line)
        for name, figures in view.totals:
            row = table.row(style=FontFace(emphasis="BOLD"))
            row.cell(name)
            for figure in figures:
                row.cell(figure)
                row.cell("", colspan=2)


def _row(table: object, line: Line) -> None:
    row = table.row()  # type: ignore[attr-defined]
    row.cell(f"{line.code} {line.name}")
    for figures in line.figures:
        for figure in figures:
            row.cell(figure)


def _caveat(pdf: FPDF, view: View) -> None:
    if view.caveat:
        pdf.ln(2)
        _font(pdf, 8.5, True, _WAIT)
        pdf.multi_cell(0, 5, view.caveat, align="L", new_x="LMARGIN", new_y="NEXT")


def _facts(pdf: FPDF, view: View) -> None:
    pdf.ln(2)
    for name, value in view.facts:
        _font(pdf, 8, True, _MUTED)
        pdf.cell(36, 4.6, name)
        _font(pdf, 8)
        pdf.multi_cell(0, 4.6, _short(value), align="L", new_x="LMARGIN", new_y="NEXT")


def _short(value: str) -> str:
    """The text cut to fit the page: a source's address may be of any length."""
    return value if len(value) <= 300 else f"{value[:299]}…"


def _foot(pdf: FPDF) -> None:
    pdf.set_y(-_MARGIN_MM)
    _font(pdf, 8, True, _WAIT)
    pdf.cell(0, 5, RESEARCH_USE, align="C")
