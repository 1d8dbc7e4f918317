"""vLLM's front end: which rank gets a request, given what it has been told and when."""

from __future__ import annotations

from simserve.cluster.rank_choice import Coordinator, RankChoice

MS = 1_000_000
S = 1000 * MS


def test_an_untold_front_end_goes_round() -> None:
    choice = RankChoice(3)
    assert [choice.choose(i * MS) for i in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_what_it_has_sent_is_forgotten_every_five_seconds() -> None:
    """The ranks of a dense model tell nothing: zeros are published, and rank 0 is the first again."""
    choice = RankChoice(2)
    assert choice.choose(1 * S) == 0
    assert choice.choose(5 * S) == 0
    assert choice.choose(6 * S) == 1
    assert choice.choose(7 * S) == 0
    assert choice.choose(11 * S) == 0


def test_a_waiting_request_weighs_as_much_as_four_running_ones() -> None:
    for running, expected in ((3, 1), (4, 0), (5, 0)):
        choice = RankChoice(2)
        # Rank 0 has one waiting, rank 1 some running.
        choice.report(0, 1, 0, 0, 1, 1 * S)
        choice.report(1, 0, running, 0, 1, 1 * S)
        assert choice.choose(2 * S) == expected


def test_each_choice_counts_as_one_more_that_waits() -> None:
    choice = RankChoice(2)
    choice.report(0, 0, 9, 0, 1, 1 * S)
    choice.report(1, 0, 0, 0, 1, 1 * S)
    # 9 against 0, 4, 8, 12.
    assert [choice.choose(2 * S) for _ in range(4)] == [1, 1, 1, 0]


def test_counts_are_published_a_tenth_of_a_second_after_the_last_time() -> None:
    coordinator = Coordinator(2)
    coordinator.tell(0, (0, 7), (0, 1), 6 * S)  # nothing has been published since 5 s: 50 ms for the others
    coordinator.catch_up(6 * S + 49 * MS)
    assert coordinator.published == [(0, 0), (0, 0)]
    coordinator.catch_up(6 * S + 50 * MS)
    assert coordinator.published == [(0, 7), (0, 0)]
    coordinator.tell(0, (0, 8), (0, 2), 6 * S + 60 * MS)
    coordinator.catch_up(6 * S + 149 * MS)
    assert coordinator.published == [(0, 7), (0, 0)]
    coordinator.catch_up(6 * S + 150 * MS)
    assert coordinator.published == [(0, 8), (0, 0)]


def test_what_is_published_is_of_one_step() -> None:
    """The first word of the next step fixes the counts of the one before, and what is overdue goes out."""
    coordinator = Coordinator(2)
    coordinator.tell(0, (0, 1), (0, 1), 6 * S)
    coordinator.tell(1, (0, 2), (0, 1), 6 * S)
    coordinator.tell(0, (0, 5), (0, 2), 6 * S + 20 * MS)
    coordinator.catch_up(6 * S + 20 * MS)
    assert coordinator.published == [(0, 1), (0, 2)]
    # The rest is published 100 ms later.
    coordinator.catch_up(6 * S + 119 * MS)
    assert coordinator.published == [(0, 1), (0, 2)]
    coordinator.catch_up(6 * S + 120 * MS)
    assert coordinator.published == [(0, 5), (0, 2)]


def test_a_publication_erases_what_the_front_end_has_counted() -> None:
    choice = RankChoice(2)
    choice.report(0, 0, 0, 0, 1, 1 * S)
    assert [choice.choose(2 * S) for _ in range(2)] == [0, 1]
    # The engine has not looked at its input yet, and says the same as before.
    choice.report(0, 0, 1, 0, 2, 3 * S)
    choice.report(0, 0, 0, 0, 3, 3 * S + 1 * MS)
    assert choice.choose(4 * S) == 0
