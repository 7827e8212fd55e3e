"""What may be done only so often that it takes little of the time."""

import types

import pytest

from training import ration


@pytest.fixture
def clock(monkeypatch):
    """The time that the module sees, which stands still unless it is set."""
    fake = types.SimpleNamespace(now=1000.0)
    monkeypatch.setattr(ration.time, "monotonic", lambda: fake.now)
    return fake


def test_work_is_due_when_ten_times_as_long_has_passed_as_it_took(clock):
    slow = ration.Ration()
    assert slow.is_due()
    with slow.work():
        clock.now += 2
    assert not slow.is_due()
    clock.now += 19.9
    assert not slow.is_due()
    clock.now += 0.1
    assert slow.is_due()


def test_quick_work_is_always_due(clock):
    quick = ration.Ration()
    with quick.work():
        clock.now += 0.2
    assert quick.is_due()


def test_work_that_fails_stays_due(clock):
    broken = ration.Ration()
    with pytest.raises(OSError, match="disk"), broken.work():
        clock.now += 2
        raise OSError("disk")
    assert broken.is_due()
