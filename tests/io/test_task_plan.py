from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure.io.digest import CHUNK
from perdure.io.plan import plan


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 2 * CHUNK + 2)), max_size=8))
def test_a_plan_covers_every_byte_once(extents: list[tuple[int, int]]) -> None:
    offsets, end = [], 0
    for gap, nbytes in extents:
        offsets.append((end + gap, nbytes))
        end += gap + nbytes
    covered: dict[int, int] = dict.fromkeys(range(len(extents)), 0)
    for task in plan(offsets):
        assert task.nbytes <= CHUNK
        position = task.offset
        for piece in task.pieces:
            assert position == offsets[piece.extent][0] + piece.start
            assert piece.start == covered[piece.extent]
            assert piece.start % CHUNK == 0
            covered[piece.extent] += piece.nbytes
            position += piece.nbytes
    assert [covered[index] for index in range(len(extents))] == [nbytes for _, nbytes in offsets]
