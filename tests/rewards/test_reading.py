import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frpo_verl.rewards import values
from frpo_verl.rewards.reading import letters_of, read
from frpo_verl.rewards.values import Assign, Formula, Items, unread


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("3/4", "Number"), (r"2\sqrt{3}\pi", "Number"), (r"50\%", "Number"), ("5 cm", "Number"), ("twelve", "Number"),
        ("forty-two", "Number"), ("32,349", "Number"), ("13_{10}", "Number"), ("F_{30}", "Formula value"),
        (r"\cot x", "Formula value"), ("n!", "Formula value"), (r"\log_2 8", "Formula value"), (r"-\infty", "Formula value"),
        (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", "Formula value"), ("2x=10", "Formula relation"),
        ("x+y=3", "Formula relation"), ("f(1)<f(2)", "Formula relation"), ("x=x+1", "Formula relation"),
        (r"1\le|z|\le 2", "Formula relation"), (r"(2,9)\setminus\{3\}", "Formula set"), ("1, -2", "Items list"),
        ("1;2", "Items list"), ("32, 349", "Items list"), (r"1\pm\sqrt{2}", "Items list"), (r"\{1,2\}", "Items set"),
        (r"\emptyset", "Items set"), ("(1,2)", "Items ()"), (r"\langle 1,2\rangle", "Items ()"), ("(99,503)", "Items ()"),
        ("[3,4)", "Items [)"), (r"(2,\infty)", "Items ()"), (r"(0,1)\cup(2,3)", "Items union"), ("7:32", "Items time"), ("7:3", "Items ratio"), ("2:3:4", "Items ratio"), (r"7 \pmod{12}", "Items mod"),
        (r"\mathbb{R}", "Items open"), (r"\begin{pmatrix}1\\2\end{pmatrix}", "Items matrix"), ("x=1, y=2", "Items named"),
        ("x>2", "Assign"), ("x=5", "Assign"), ("5=x", "Assign"), ("f(x)=2x", "Assign"), (r"-2<x\le 7", "Assign"),
        (r"x\in[0,1]", "Assign"), ("2+3=5", "Chain"), (r"1/3\approx 0.33", "Chain"), ("4210_5", "Text word"),
        ("4210_{five}", "Text word"), ("Evelyn", "Text word"), ("(C)", "Text choice"), ("29_5", "Text unread"),
        ("1_{37}", "Text unread"), (r"\frac{1}{\infty}", "Text unread"), (r"\phantom{5}", "Text unread"), ("", "Text unread"),
        ("1,(2", "Text unread"), ("1 2", "Text unread"),
    ],
)  # fmt: skip
def test_types(text, kind):
    value = read(text)
    name = type(value).__name__
    assert f"{name} {value.kind}" == kind if name in ("Formula", "Items", "Text") else name == kind


def test_lists_and_names():
    assert read("1, -2").kind == "list" and read(r"\{1,2\}").kind == "set" and read("(1,2)").kind == "()"
    assert len(read(r"1\pm\sqrt{2}").items) == 2 and len(read(r"\{1\pm\sqrt5,-2\}").items) == 3
    assert len(read("a=4,-8,-10").items) == 3 and read("x=1, x=2").kind == "list"
    assert [part.name for part in read("x=1, y=2").items] == ["x", "y"]
    assert read(r"1 \text{ and } 2, \text{ or } 3").items == read("1,2,3").items
    assert read("f(x)=2x").name == "f(x)" and read("V(1,2)") == Assign("V", read("(1,2)"))
    assert [part.unit for part in read("4 feet 6 inches").items] == ["ft", "in"]


def test_bounds():
    assert read("x>2").value.items == read(r"(2,\infty)").items and read(r"7\ge x>-2").value == read("(-2,7]")
    assert read("2<x") == read("x>2") and read(r"3\le x").value.kind == "[)" and read(r"x\le 3").value.kind == "(]"
    assert read(r"x\ne 3").value.kind == read("x<1 or x>2").value.kind == "union"
    assert read(r"x<1").value == Items("open", (read(r"-\infty"), read("1")))


def test_letters():
    assert letters_of(r"a\sin x+\theta_n e^i") == {"a", "x", "theta", "n"}
    assert read("2x cm") == Formula("2x", "value", frozenset("x"), "cm") and read(r"\vec{a}+1") == unread(r"\vec{a}+1")


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=r"0123456789.,+-*/^_!%\{}()[]$ abxfrcsqt=<>:;&∪", max_size=60), st.booleans())
def test_any_text_is_read(text, trusted):
    kinds = {kind for kind in vars(values).values() if isinstance(kind, type)}
    assert type(read(text, trusted)) in kinds
