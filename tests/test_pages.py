"""Which pasts are found again, and which page goes when pages run short."""

import random

import pytest

from adapters.native import PAGE
from adapters.pages import Pages

ANN, NEW, BOB = ("ann", 1), ("ann", 2), ("bob", 1)
TEXT = [number * 7 % 251 for number in range(10 * PAGE)]  # no two pages of it hold the same


def kept(pages, owner, ids):
    """A row comes, computes what is not known of its tokens, and goes; how many pages it found."""
    held = pages.find(owner, ids)
    found = len(held)
    held += [pages.take() for _ in range(-(-len(ids) // PAGE) - found)]
    pages.leave(owner, ids, held)
    return found


def found(pages, owner, ids):
    """How many pages would be found now."""
    held = pages.find(owner, ids)
    pages.leave(owner, ids[: len(held) * PAGE], held)
    return len(held)


def check(pages):
    """Every page is in use, remembered or free, and in no two of these at once."""
    used = [page for page, uses in enumerate(pages.uses) if uses]
    idle = [pages.known[key].page for key in pages.idle]
    assert sorted([*pages.free, *idle, *used]) == list(range(len(pages.uses)))
    assert pages.keys == {held.page: key for key, held in pages.known.items()}
    assert not set(pages.keys) & set(pages.free)
    assert len(pages.idle) <= pages.most_idle


def test_a_past_is_found_by_its_user_and_version_and_its_very_tokens_alone():
    pages = Pages(20, 10, lambda _page: None)
    assert kept(pages, ANN, TEXT[: 3 * PAGE]) == 0
    assert found(pages, ANN, TEXT[: 3 * PAGE + 1]) == 3
    for other in (NEW, BOB, ("ann", 0), None):
        assert found(pages, other, TEXT[: 3 * PAGE + 1]) == 0
    for changed in (0, PAGE - 1, PAGE, 2 * PAGE, 3 * PAGE - 1):
        ids = TEXT[: 3 * PAGE + 1]
        ids[changed] += 1
        assert found(pages, ANN, ids) == changed // PAGE, "as far as the tokens agree"
    check(pages)


def test_the_same_tokens_after_another_past_are_another_past():
    pages = Pages(20, 10, lambda _page: None)
    kept(pages, ANN, TEXT[: 2 * PAGE])
    assert found(pages, ANN, TEXT[PAGE : 2 * PAGE + 1]) == 0, "a page's numbers hang on all that is before it"
    assert found(pages, ANN, TEXT[5 * PAGE : 6 * PAGE] + TEXT[PAGE : 3 * PAGE]) == 0


@pytest.mark.parametrize(
    ("tokens", "pages"), [(1, 0), (PAGE, 0), (PAGE + 1, 1), (2 * PAGE, 1), (2 * PAGE + 1, 2)]
)
def test_the_last_token_of_a_prompt_is_always_computed(tokens, pages):
    cache = Pages(20, 10, lambda _page: None)
    kept(cache, ANN, TEXT[: 5 * PAGE])
    assert found(cache, ANN, TEXT[:tokens]) == pages


def test_a_page_that_is_not_full_is_shared_with_nobody():
    pages = Pages(20, 10, lambda _page: None)
    kept(pages, ANN, TEXT[: 2 * PAGE - 1])
    assert found(pages, ANN, TEXT[: 5 * PAGE]) == 1
    assert len(pages.free) == 19
    check(pages)


def test_nobodys_past_is_not_remembered():
    pages = Pages(4, 4, lambda _page: None)
    kept(pages, None, TEXT[: 3 * PAGE])
    assert not pages.known and len(pages.free) == 4


def test_rows_of_one_owner_share_their_beginning_while_they_run():
    pages = Pages(20, 10, lambda _page: None)
    kept(pages, ANN, TEXT[: 2 * PAGE])
    one, two = (pages.find(ANN, TEXT[: 3 * PAGE]) for _ in range(2))
    assert one == two and [pages.uses[page] for page in one] == [2, 2]
    pages.leave(ANN, TEXT[: 2 * PAGE], one)
    assert [pages.uses[page] for page in two] == [1, 1] and not pages.idle
    pages.leave(ANN, TEXT[: 2 * PAGE], two)
    assert len(pages.idle) == 2
    check(pages)


def test_two_rows_that_computed_the_same_leave_one_past():
    pages = Pages(20, 10, lambda _page: None)
    one, two = ([pages.take(), pages.take()] for _ in range(2))
    pages.leave(ANN, TEXT[: 2 * PAGE], one)
    pages.leave(ANN, TEXT[: 2 * PAGE], two)
    assert pages.find(ANN, TEXT) == one
    assert set(two) <= set(pages.free)
    check(pages)


def test_what_followed_a_page_does_not_follow_what_the_page_holds_later():
    pages = Pages(4, 4, lambda _page: None)
    one, two = [pages.take()], [pages.take(), pages.take()]
    pages.leave(ANN, TEXT[:PAGE], one)
    pages.leave(ANN, TEXT[: 2 * PAGE], two)  # its second page is remembered after `one`
    others = [pages.take() for _ in range(3)]
    assert one[0] in others and two[1] not in others, "the older has gone, what followed it has not"
    pages.leave(ANN, TEXT[5 * PAGE : 6 * PAGE], one)
    ids = TEXT[5 * PAGE : 6 * PAGE] + TEXT[PAGE : 3 * PAGE]
    assert pages.find(ANN, ids) == one
    assert pages.find(ANN, TEXT) == []


def test_the_longest_unused_goes_first_and_of_a_conversation_its_end():
    pages = Pages(6, 6, lambda _page: None)
    kept(pages, ANN, TEXT[: 3 * PAGE])
    kept(pages, BOB, TEXT[: 3 * PAGE])
    pages.take()
    assert (found(pages, ANN, TEXT), found(pages, BOB, TEXT)) == (2, 3), "ann's is older"
    pages.take()
    pages.take()
    assert (found(pages, ANN, TEXT), found(pages, BOB, TEXT)) == (0, 3)
    check(pages)


def test_what_no_row_uses_keeps_to_its_bound_and_a_beginning_is_what_is_left():
    pages = Pages(20, 2, lambda _page: None)
    kept(pages, ANN, TEXT[: 5 * PAGE])
    assert found(pages, ANN, TEXT) == 2
    assert len(pages.free) == 18
    kept(pages, BOB, TEXT[:PAGE])
    assert (found(pages, ANN, TEXT), found(pages, BOB, TEXT)) == (1, 1)
    check(pages)


def test_a_page_in_use_never_goes():
    pages = Pages(3, 3, lambda _page: None)
    kept(pages, ANN, TEXT[: 2 * PAGE])
    held = pages.find(ANN, TEXT)
    pages.take()
    with pytest.raises(AssertionError, match="admits no more"):
        pages.take()
    pages.leave(ANN, TEXT[: 2 * PAGE], held)
    assert pages.take() in held


def test_forgetting_a_user_frees_all_versions_pages_and_nobody_elses():
    freed: list[int] = []
    pages = Pages(20, 10, freed.append)
    for owner in (ANN, NEW, BOB):
        kept(pages, owner, TEXT[: 2 * PAGE])
    held = pages.find(BOB, TEXT)
    pages.forget("ann")
    assert len(set(freed)) == 4 and set(freed) <= set(pages.free)
    assert [found(pages, owner, TEXT) for owner in (ANN, NEW, BOB)] == [0, 0, 2]
    pages.leave(BOB, TEXT[: 2 * PAGE], held)
    check(pages)


def test_forgetting_a_user_whose_rows_still_run_leaves_them_their_pages():
    wiped: list[int] = []
    pages = Pages(20, 10, wiped.append)
    kept(pages, ANN, TEXT[: 2 * PAGE])
    held = pages.find(ANN, TEXT)
    pages.forget("ann")
    assert not wiped and not set(held) & set(pages.free)
    pages.leave(ANN, TEXT[: 2 * PAGE - 1], held)
    assert len(wiped) == 1, "the page that is not full is not remembered"
    check(pages)


def test_thousands_of_rows_lose_and_double_no_page():
    """Against a dictionary of what each owner has computed: what is found was once computed by that owner."""
    draws = random.Random(3)
    pages = Pages(40, 12, lambda _page: None)
    texts = [[draws.randrange(3) for _ in range(6 * PAGE)] for _ in range(3)]
    holds: dict[int, tuple] = {}  # page → whose and which tokens up to its end, as written last
    running = []
    for _ in range(5000):
        if running and (len(running) > 4 or draws.random() < 0.5):
            owner, ids, held = running.pop(draws.randrange(len(running)))
            pages.leave(owner, ids, held)
        elif draws.random() < 0.01:
            pages.forget("ann")
        else:
            owner = draws.choice([ANN, NEW, BOB, None])
            ids = draws.choice(texts)[: draws.randrange(1, 6 * PAGE)]
            held = pages.find(owner, ids)
            for number, page in enumerate(held):
                assert holds[page] == (owner, ids[: (number + 1) * PAGE])
            for number in range(len(held), -(-len(ids) // PAGE)):
                held.append(pages.take())
                holds[held[-1]] = (owner, ids[: (number + 1) * PAGE])
            running.append((owner, ids, held))
        check(pages)
