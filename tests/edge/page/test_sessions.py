import re
import shutil
from pathlib import Path

from starlette.testclient import TestClient

from edgecell.edge.page.app import A_PAGE
from edgecell.edge.page.library import Entry, Library
from edgecell.edge.record.connection import DATABASE
from tests.edge.page.test_review import name


def test_a_session_is_read_anew_only_when_it_has_changed(
    client: TestClient, base: str, folder: Path
) -> None:
    library = Library(folder.parent)
    (before,) = library.entries()
    assert library.entries()[0] is before
    name(client, base, "1", "LY")
    assert library.entries()[0].readings != before.readings


def test_many_sessions_come_page_by_page_and_can_be_searched(
    client: TestClient, folder: Path
) -> None:
    assert 'role="search"' not in client.get("/").text, "one session needs no search"
    for i in range(2 * A_PAGE):
        broken = folder.parent / f"2024-ward {i:03d}<b>"
        broken.mkdir()
        (broken / DATABASE).write_bytes(b"no database")

    def listed(**asked: str) -> list[str]:
        page = client.get("/", params=asked)
        assert page.status_code == 200
        return re.findall(r"<h2>(?:<a[^>]*>)?(.+?)</", page.text)

    pages = [listed(page=str(i)) for i in (1, 2, 3)]
    assert [len(names) for names in pages] == [A_PAGE, A_PAGE, 1]
    assert pages[0][0] == folder.name, "the newest first"
    assert len({name for names in pages for name in names}) == 2 * A_PAGE + 1
    for beyond in ("0", "-1", "x", "\u00b2", "9" * 5000):
        assert listed(page=beyond) == pages[0]
    assert listed(page="999") == pages[2]
    assert listed(find="WARD 011") == ["2024-ward 011&lt;b&gt;"]
    assert len(listed(find="ward", page="2")) == A_PAGE
    following = client.get("/", params={"find": "<b> ward"}).text
    assert 'href="/?find=%3Cb%3E%20ward&amp;page=2"' in following
    assert listed(find="nowhere") == []
    for path in folder.parent.glob("2024*"):
        shutil.rmtree(path)
    alone = client.get("/", params={"find": "nowhere"}).text
    assert 'value="nowhere"' in alone, "a search that finds nothing can be undone"


def test_a_search_finds_umlauts_however_they_are_written() -> None:
    composed, decomposed = "M\u00fcller-Pr\u00e4parat", "Mu\u0308ller-Pra\u0308parat"
    for folder in (composed, decomposed):
        for words in (composed, decomposed.upper()):
            assert Entry("k", folder).matches(words)
