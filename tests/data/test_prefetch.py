"""Items made while the ones before are in use."""

import threading

import pytest

from keras_neokd.data.batches import Prefetch


def test_the_next_ones_are_made_before_they_are_asked_for():
    made, both = [], threading.Event()

    def make(number):
        made.append(number)
        if {1, 2} <= set(made):
            both.set()
        return 10 * number

    prefetch = Prefetch(depth=2)
    assert prefetch.get(make, "row", 0, end=5) == 0
    assert both.wait(timeout=10)
    assert [prefetch.get(make, "row", number, 5) for number in range(1, 5)] == [
        10,
        20,
        30,
        40,
    ]
    assert sorted(made) == [0, 1, 2, 3, 4]


def test_another_row_or_place_gives_nothing_old():
    prefetch = Prefetch()
    assert prefetch.get(lambda number: ("a", number), "a", 0, 9) == ("a", 0)
    assert prefetch.get(lambda number: ("b", number), "b", 1, 9) == ("b", 1)
    assert prefetch.get(lambda number: ("b", number), "b", 7, 9) == ("b", 7)
    assert prefetch.get(lambda number: ("b", number), "b", 2, 9) == ("b", 2)


def test_an_error_comes_where_its_thing_is_asked_for():
    def make(number):
        if number == 1:
            raise ValueError("one")
        return number

    prefetch = Prefetch()
    assert prefetch.get(make, 0, 0, 3) == 0
    with pytest.raises(ValueError, match="one"):
        prefetch.get(make, 0, 1, 3)
    assert prefetch.get(make, 0, 2, 3) == 2
