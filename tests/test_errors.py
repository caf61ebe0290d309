"""The tree of errors."""

import inspect

import pytest

from simcore import errors
from simcore.errors import SimError, suggest

ALL = [getattr(errors, name) for name in errors.__all__ if inspect.isclass(getattr(errors, name))]


def test_every_error_is_public_and_stands_in_the_picture() -> None:
    defined = {name for name, thing in vars(errors).items() if inspect.isclass(thing) and issubclass(thing, Exception)}
    assert defined == {error.__name__ for error in ALL}
    for name in defined:
        assert name in (errors.__doc__ or ""), f"{name} is not drawn"


def test_the_picture_shows_who_descends_from_whom() -> None:
    parents = {0: "SimError"}
    for line in (errors.__doc__ or "").splitlines():
        before, arrow, rest = line.partition("+--")
        if arrow:
            depth = 1 + before.count("|")
            name = rest.split()[0]
            parents[depth] = name
            assert getattr(errors, name).__bases__ == (getattr(errors, parents[depth - 1]),)


@pytest.mark.parametrize("error", ALL)
def test_an_error_takes_exactly_one_message_and_survives_being_raised_anew(error: type[SimError]) -> None:
    original = error("services.db.threads must be >= 1, got 0")
    again = type(original)(*original.args)
    assert isinstance(again, SimError)
    assert str(again) == "services.db.threads must be >= 1, got 0"
    with pytest.raises(TypeError):
        error()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        error("one", "two")  # type: ignore[call-arg]


def test_a_slip_of_the_pen_is_answered_with_the_closest_name() -> None:
    assert suggest("latency_spke", ["latency_spike", "crash_loop"]) == "; did you mean 'latency_spike'?"
    assert suggest("xyz", iter(["latency_spike", "crash_loop"])) == ""
    assert suggest("xyz", []) == ""
