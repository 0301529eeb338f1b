import numpy as np
import pytest

from edgecell.classes import CODES
from edgecell.edge.count.votes import MOST_VOTES, Rule, Votes
from edgecell.image.records import Box
from edgecell.model.decision import WRONG_SIZE, size_reasons
from tests.factories import cell_result

RULE = Rule(CODES)
BOX = Box(0, 0, 40, 40)


def test_two_cells_that_are_one_decide_as_all_their_votes_together() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (5, 12)).astype(np.float32)
    one, other, together = Votes(None), Votes("out of focus"), Votes(None)
    for i, row in enumerate(logits):
        sighting = cell_result(BOX, logits=row)
        assert (one if i < 2 else other).add(sighting)
        assert together.add(sighting)
    one.merge(other)
    merged, expected = one.decide(3, RULE), together.decide(3, RULE)
    assert (merged.code, merged.votes) == (expected.code, 5)
    assert merged.logits == pytest.approx(logits.mean(axis=0), abs=1e-6)
    assert merged.probability == pytest.approx(expected.probability)


def test_a_cell_without_votes_gives_its_reason() -> None:
    votes = Votes("out of focus")
    assert not votes.add(cell_result(BOX, gate="out of focus"))
    assert not votes.add(cell_result(BOX, cut_by_border=True))
    decision = votes.decide(1, RULE, same_as=2)
    assert (decision.code, decision.probability, decision.logits) == (None, None, None)
    assert decision.reasons == ("out of focus",)
    assert (decision.votes, decision.same_as) == (0, 2)
    other = Votes(None)
    assert other.add(cell_result(BOX, logits=np.eye(12)[3]))
    votes.merge(other)
    assert votes.decide(1, RULE).code == "ERB"
    assert votes.decide(1, RULE).reasons == ()


def test_the_ninth_sighting_has_no_vote() -> None:
    votes = Votes(None)
    added = [votes.add(cell_result(BOX)) for _ in range(MOST_VOTES + 1)]
    assert added == [True] * MOST_VOTES + [False]


def test_what_only_another_model_could_name_is_to_be_reviewed() -> None:
    assert size_reasons("LY", 0.5) == (WRONG_SIZE,)
    assert size_reasons("LY", 1.5) == size_reasons("PLT", 0.5) == ()
    without = Rule(("LY", "SNE"))
    votes = Votes(None)
    assert votes.add(cell_result(BOX, logits=[2, 1], red_cell_px=80.0))
    decision = votes.decide(1, without)
    assert (decision.code, decision.reasons) == ("LY", (WRONG_SIZE,))


def test_the_size_over_all_votes_excludes_classes() -> None:
    logits = np.zeros(12, np.float32)
    logits[CODES.index("PLT")], logits[CODES.index("LY")] = 5, 3
    votes = Votes(None)
    assert votes.add(cell_result(BOX, logits=logits, red_cell_px=40.0))
    assert votes.decide(1, RULE).code == "PLT"  # 1.0 red cells: either
    # 2.0 red cells: 1.5 in the mean, which no platelet has
    assert votes.add(cell_result(BOX, logits=logits, red_cell_px=20.0))
    decision = votes.decide(1, RULE)
    assert decision.code == "LY"
    assert decision.logits is not None
    assert decision.logits[CODES.index("PLT")] == -np.inf
    assert decision.logits[CODES.index("LY")] == 3
    e3, rest = np.exp(3.0), 10.0  # the ten others have a logit of 0
    assert decision.probability == pytest.approx(e3 / (e3 + rest))
