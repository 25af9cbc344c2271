"""When another process counts as dead: by what was seen of it, and never by a clock alone."""

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from oban.engines.nodes import Sighting
from oban.engines.runs import ProducerIdentity
from oban.running.lifeline import RETURNING, Silences

INTERVAL = 3.0


def seen(beat_at: float | None = 100.0, uuid: str = "a", max_age: float = 10.0) -> Sighting:
    return Sighting(ProducerIdentity(uuid, "Oban", "node", "default"), beat_at, max_age)


def watch(silences: Silences, *beats: tuple[float, list[Sighting]]) -> None:
    for at, sightings in beats:
        silences.observe(sightings, at)


def test_a_producer_is_dead_once_its_beat_has_not_changed_for_its_max_age() -> None:
    silences = Silences(INTERVAL)
    watch(silences, *((at, [seen()]) for at in (0, 3, 6, 9)))
    assert silences.dead(9.9) == []
    assert silences.next_due_at(9.9) == 10
    assert silences.dead(10) == [seen()]


def test_a_missing_beat_is_silence_like_one_that_does_not_change() -> None:
    silences = Silences(INTERVAL)
    watch(silences, *((at, [seen(None)]) for at in (0, 3, 6, 9)))
    assert silences.dead(10) == [seen(None)]


def test_each_new_beat_begins_the_silence_anew() -> None:
    silences = Silences(INTERVAL)
    watch(silences, *((at, [seen(100 + at // 6)]) for at in range(0, 60, 3)))
    assert all(silences.dead(at) == [] for at in range(57, 63))


def test_a_clock_that_is_set_back_is_a_new_beat_too() -> None:
    silences = Silences(INTERVAL)
    watch(silences, (0, [seen()]), (3, [seen()]), (6, [seen()]), (9, [seen(-3500)]))
    assert silences.dead(12) == []


def test_too_few_beats_of_our_own_are_not_enough_whatever_the_clock_says() -> None:
    silences = Silences(INTERVAL)
    watch(silences, (0, [seen()]), (5.9, [seen()]), (11.8, [seen()]))
    assert silences.dead(12) == []
    watch(silences, (14, [seen()]))
    assert silences.dead(14) == [seen()]


def test_a_gap_in_our_own_beats_begins_every_silence_anew() -> None:
    silences = Silences(INTERVAL)
    watch(silences, (0, [seen()]), (3, [seen()]), (6, [seen()]), (9, [seen()]))
    watch(silences, (15.1, [seen()]))
    assert silences.dead(15.1) == []
    watch(silences, (18, [seen()]), (21, [seen()]), (24, [seen()]))
    assert silences.dead(25) == []
    assert silences.dead(25.1) == [seen()]


def test_what_was_seen_before_a_gap_that_still_lasts_is_worth_nothing() -> None:
    silences = Silences(INTERVAL)
    watch(silences, *((at, [seen()]) for at in (0, 3, 6, 9)))
    assert silences.dead(15.1) == []


def test_after_a_gap_the_others_have_time_to_return() -> None:
    silences = Silences(0.3)
    watch(silences, (0, [seen(max_age=1)]), (0.3, [seen(max_age=1)]))
    began = 10.0  # the database was away
    for n in range(17):
        watch(silences, (began + n * 0.3, [seen(None, max_age=1)]))
        assert silences.dead(began + n * 0.3) == []
    watch(silences, (began + RETURNING, [seen(None, max_age=1)]))
    assert silences.dead(began + RETURNING) == [seen(None, max_age=1)]


def test_the_silence_that_is_allowed_is_what_the_producer_promised() -> None:
    silences = Silences(1)
    slow, quick = seen(uuid="slow", max_age=60), seen(uuid="quick", max_age=2)
    watch(silences, *((at, [slow, quick]) for at in range(30)))
    assert silences.dead(30) == [quick]


def test_one_that_is_not_seen_any_more_is_forgotten() -> None:
    silences = Silences(INTERVAL)
    watch(silences, (0, [seen()]), (3, [seen()]), (6, [seen()]), (9, []))
    assert silences.dead(11) == []
    watch(silences, (12, [seen()]))
    assert silences.dead(13) == []


@given(
    steps=st.lists(st.tuples(st.floats(0.01, 8), st.booleans()), max_size=60),
    max_age=st.floats(0.6, 30),
)
def test_nobody_is_dead_who_gave_a_sign_of_life_within_max_age(
    steps: list[tuple[float, bool]], max_age: float
) -> None:
    silences, now, beats = Silences(INTERVAL), 0.0, count()
    beat_at, alive_at = float(next(beats)), 0.0
    for pause, alive in steps:
        now += pause
        if alive:
            beat_at, alive_at = float(next(beats)), now
        silences.observe([seen(beat_at, max_age=max_age)], now)
        assert now - alive_at >= max_age - 1e-6 or silences.dead(now) == []
