import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frpo_verl.rewards import values
from frpo_verl.rewards.values import Expression, Items, Opaque, letters_of, read, split


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("3/4", "Number"), (r"2\sqrt{3}\pi", "Number"), (r"50\%", "Number"), ("5 cm", "Number"), ("twelve", "Number"),
        ("4210_5", "Based"), ("4210_{five}", "Based"), ("29_5", "Opaque"), ("1_{37}", "Opaque"), ("F_{30}", "Expression"),
        (r"\cot x", "Expression"), ("n!", "Expression"), (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", "Expression"),
        (r"-\infty", "Infinity"), (r"\frac{1}{\infty}", "Opaque"), (r"\phantom{5}", "Opaque"), ("1, -2", "Items"),
        (r"\{1,2\}", "Items"), ("(1,2)", "Items"), (r"\langle 1,2\rangle", "Items"), ("1;2", "Items"), ("32, 349", "Items"),
        ("32,349", "Number"), ("(99,503)", "Items"), ("[3,4)", "Interval"), (r"(2,\infty)", "Interval"), ("x>2", "Assign"),
        (r"(0,1)\cup(2,3)", "Union"), (r"\begin{pmatrix}1\\2\end{pmatrix}", "Matrix"), ("7:32", "Ratio"), ("x=5", "Assign"),
        ("5=x", "Assign"), ("f(x)=2x", "Assign"), (r"-2<x\le 7", "Assign"), (r"x\in[0,1]", "Assign"), ("x=1, y=2", "Named"),
        ("2+3=5", "Chain"), (r"1/3\approx 0.33", "Chain"), ("2x=10", "Relation"), ("x+y=3", "Relation"),
        ("f(1)<f(2)", "Relation"), ("x=x+1", "Relation"), ("Evelyn", "Word"), ("(C)", "Word"), ("", "Opaque"), ("1,(2", "Opaque"),
    ],
)  # fmt: skip
def test_types(text, kind):
    assert type(read(text)).__name__ == kind


def test_lists_and_names():
    assert read("1, -2").kind == "list" and read(r"\{1,2\}").kind == "set" and read("(1,2)").kind == "tuple"
    assert len(read(r"1\pm\sqrt{2}").items) == 2 and len(read(r"\{1\pm\sqrt5,-2\}").items) == 3
    assert len(read("a=4,-8,-10").items) == 3 and isinstance(read("x=1, x=2"), Items)
    assert [part.name for part in read("x=1, y=2").values] == ["x", "y"]
    assert read(r"1 \text{ and } 2, \text{ or } 3").items == read("1,2,3").items
    assert read("f(x)=2x").name == read("f(t)=2x").name == "f()"


def test_bounds():
    assert read("x>2").value == read(r"(2,\infty)") and read(r"7\ge x>-2").value == read("(-2,7]")
    assert read("2<x").value == read("x>2").value and len(read(r"x\ne 3").value.parts) == 2


def test_split():
    assert split("1,(2,3),[4,5)") == ["1", "(2,3)", "[4,5)"] and split(r"\frac{1,2}{3},4") == [r"\frac{1,2}{3}", "4"]
    assert split("1,(2") is None and split("1)") is None and split("," * 2000) is None


def test_letters():
    assert letters_of(r"a\sin x+\theta_n e^i") == {"a", "x", "theta", "n"}
    assert read("2x cm") == Expression("2x", frozenset("x"), "cm") and read(r"\vec{a}+1") == Opaque(r"\vec{a}+1")


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=r"0123456789.,+-*/^_!%\{}()[]$ abxfrcsqt=<>:;&∪", max_size=60), st.booleans())
def test_any_text_is_read(text, trusted):
    kinds = {kind for kind in vars(values).values() if isinstance(kind, type)}
    assert type(read(text, trusted)) in kinds
