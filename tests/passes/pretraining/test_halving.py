from __future__ import annotations

from hant.passes.pretraining.halving import hopeless, stops


def test_rungs_lie_after_halves_of_halves() -> None:
    assert stops(220, 0) == [220]
    assert stops(220, 2) == [55, 110, 220]
    assert stops(3, 5) == [1, 3]


def test_hopeless_is_what_another_beats_in_both() -> None:
    rivals = {
        "b/fast": (1.0, 0.4),
        "b/good": (2.0, 0.1),
        "b/slower": (3.0, 0.19),
        "b/beaten": (3.0, 0.2),
        "b/best": (4.0, 0.01),
    }
    assert hopeless(rivals, 2.0) == {"b/beaten": "good is no slower, and its error 0.1 is below 0.2"}


def test_equals_do_not_stop_each_other() -> None:
    assert hopeless({"b/one": (1.0, 0.5), "b/two": (1.0, 0.5)}, 1.5) == {}
    assert hopeless({}, 2.0) == {}
