import pytest

from frpo_verl.rewards.units import read_unit, without_things


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("cm", "cm"), ("centimeters", "cm"), ("kJ", "kJ"), ("kilojoules", "kJ"), ("nm", "nm"), ("km", "km"), ("mm", "mm"),
        ("Mm", "Mm"), ("square inches", "in^2"), ("in^2", "in^2"), ("cubic meters", "m^3"), ("inches squared", "in^2"),
        ("miles per hour", "mi/h"), ("mph", "mi/h"), ("m/s^2", "m/s^2"), ("m s^-2", "m/s^2"), ("meters per second", "m/s"),
        ("p.m.", "pm"), ("PM", "pm"), ("a.m.", "am"), ("degrees", "°"), ("°C", "°C"), ("radians", "rad"), ("dollars", "$"),
        ("USD", "$"), ("cents", "cent"), ("euros", "€"), ("apples", ""), ("people", ""), ("hrs", "h"), ("lbs", "lb"),
    ],
)  # fmt: skip
def test_units(text, unit):
    assert read_unit(text) == unit


@pytest.mark.parametrize(
    "text",
    ["halves", "tenths", "squared", "dozen", "or two", "and a half", "x", "n", "xyz", "foobars", "", "pi", "cm or m"],
)
def test_not_units(text):
    assert read_unit(text) is None


def test_a_ground_truth_may_name_what_it_counts():
    assert read_unit("foobars", trusted=True) == "" and read_unit("км", trusted=True) == ""
    assert read_unit("tenths", trusted=True) is None and read_unit("xy", trusted=True) is None


def test_a_question_may_name_what_is_counted():
    question = "Ann has 3 wombats and Bob has twice as many dozens of jigsaw puzzles or more. How many?"
    assert without_things("42 wombats", "42 wombats", question) == "42"
    assert without_things(r"42\text{ Wombat}", "42 Wombat", question) == "42"
    assert without_things("42 jigsaw puzzles", "42 jigsaw puzzles", question) == "42"
    for answer in ("42 quokkas", "42 dozens", "42 or more", "42 wombats or quokkas", "wombats", "42", "43 wombats 42"):
        assert without_things(answer, answer, question) == answer
