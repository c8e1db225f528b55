"""The general path's cache: each row's past stays its own while others leave, grow and arrive."""

import pytest
import torch

from adapters.cache import STEP, Cache

LAYERS = (0, 1)


def write(cache, row, number, tokens):
    """Let every layer write `tokens` positions of a row's past; what it writes follows from the row's number."""
    shelf = cache.shelves[row.shelf]
    for layer in LAYERS:
        keys, values = cache.store(shelf, layer, torch.zeros(1, 2, 1, 4))
        keys[row.index, :, row.length : row.length + tokens] = number + layer
        values[row.index, :, row.length : row.length + tokens] = -number - layer
    row.length += tokens


def holds(cache, row, number):
    """Whether a row's whole past is what was written for this number."""
    shelf = cache.shelves[row.shelf]
    assert shelf.rows[row.index] is row
    return row.length > 0 and all(
        bool((shelf.keys[layer][row.index, :, : row.length] == number + layer).all())
        and bool((shelf.values[layer][row.index, :, : row.length] == -number - layer).all())
        for layer in LAYERS
    )


def placed(cache, numbers, tokens):
    rows = {number: cache.place(tokens) for number in numbers}
    for number, row in rows.items():
        write(cache, row, number, tokens)
    return rows


@pytest.mark.parametrize("leaver", [10, 20, 30])
def test_those_who_stay_keep_their_past_when_one_leaves(leaver):
    cache = Cache(5)
    rows = placed(cache, [10, 20, 30], tokens=9)
    cache.remove(rows.pop(leaver))
    assert all(holds(cache, row, number) for number, row in rows.items())


@pytest.mark.parametrize("grower", [10, 20, 30])
def test_a_row_that_grows_takes_its_past_along(grower):
    cache = Cache(5)
    rows = placed(cache, [10, 20, 30], tokens=STEP - 1)
    write(cache, rows[grower], grower, 1)
    cache.grow(rows[grower])
    assert rows[grower].shelf == 2 * STEP
    assert all(holds(cache, row, number) for number, row in rows.items())


@pytest.mark.parametrize("way", ["leaves", "grows"])
def test_a_row_makes_way_though_the_newcomers_have_written_nothing_yet(way):
    """Two rows take tensors for four; the fifth row is placed before any layer has written for it."""
    cache = Cache(5)
    rows = placed(cache, [10, 20], tokens=STEP - 1)
    write(cache, rows[10], 10, 1)  # its shelf is full
    new = [cache.place(9) for _ in range(3)]
    assert new[-1].index >= len(cache.shelves[STEP].keys[0]), "beyond the tensors, or the test shows nothing"
    if way == "leaves":
        cache.remove(rows.pop(10))
    else:
        cache.grow(rows[10])
    assert all(holds(cache, row, number) for number, row in rows.items())
    for number, row in zip([30, 40, 50], new, strict=True):
        write(cache, row, number, 9)
    assert all(
        holds(cache, row, number) for number, row in (*rows.items(), *zip([30, 40, 50], new, strict=True))
    )
    assert sorted(row.index for row in cache.shelves[STEP].rows) == list(range(len(cache.shelves[STEP].rows)))


@pytest.mark.parametrize("others", [[], [30, 40]])
@pytest.mark.parametrize("nth", range(1, 2 * len(LAYERS) + 1))
def test_where_memory_is_short_for_a_row_to_grow_nothing_has_moved(monkeypatch, nth, others):
    """The nth tensor of the longer shelf cannot be had; `others` are on it already, and fill its tensors."""
    cache = Cache(5)
    rows = placed(cache, others, tokens=STEP)
    rows |= placed(cache, [10, 20], tokens=STEP - 1)
    if others:
        cache.shelves[2 * STEP].keys = {k: t[:2] for k, t in cache.shelves[2 * STEP].keys.items()}
        cache.shelves[2 * STEP].values = {k: t[:2] for k, t in cache.shelves[2 * STEP].values.items()}
    write(cache, rows[10], 10, 1)
    asked, zeros = [], torch.zeros

    def short(*shape, **options):
        asked.append(shape)
        if len(asked) == nth:
            raise torch.OutOfMemoryError("no memory")
        return zeros(*shape, **options)

    with monkeypatch.context() as patch:
        patch.setattr("adapters.cache.torch.zeros", short)
        with pytest.raises(torch.OutOfMemoryError):
            cache.grow(rows[10])
    assert rows[10].shelf == STEP and set(cache.shelves) == {STEP, *([2 * STEP] if others else [])}
    assert all(holds(cache, row, number) for number, row in rows.items())
    cache.grow(rows[10])  # there is room again
    assert all(holds(cache, row, number) for number, row in rows.items())
    for row in rows.values():
        cache.remove(row)
    assert not cache.shelves


def test_the_last_row_to_leave_a_shelf_takes_its_memory_along():
    cache = Cache(5)
    rows = placed(cache, [10, 20], tokens=9)
    for row in rows.values():
        cache.remove(row)
    assert not cache.shelves
