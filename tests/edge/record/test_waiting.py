from dataclasses import replace

from edgecell.edge.record.waiting import without_image
from tests.factories import tracked


def test_pixels_wait_only_where_a_decision_rests_on_them() -> None:
    votes, poor = tracked(0), tracked(1, gate="blurred")
    later = replace(poor, changed=())
    ninth = replace(votes, votes=(False,))
    sizes = [
        without_image(t).result.cells[0].inner.size for t in (votes, poor, later, ninth)
    ]
    inner = votes.result.cells[0].inner.size
    assert sizes == [inner, inner, 0, 0]
    assert without_image(ninth).result.cells[0].seen.size == 0
    assert [len(t.evidence()) for t in (votes, poor, later, ninth)] == [1, 1, 0, 0]
