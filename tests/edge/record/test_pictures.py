from edgecell.edge.record.pictures import equal_cells


def test_cells_that_share_a_picture_are_one_if_only_by_way_of_a_third() -> None:
    pictures = [("a", "b"), ("c",), (), ("d",), ("b", "e"), ("c", "e"), ()]
    assert equal_cells(pictures) == [[0, 1, 4, 5], [2], [3], [6]]
    assert equal_cells([]) == []
