import re

from frpo_verl.rewards.brackets import cut, groups, mask, split


def test_mask():
    assert mask("a(b)c") == "a\x00\x00\x00c" and mask(r"x\{1\}") == "x" + 5 * "\x00"
    assert mask("(a") is None and mask("a)(b") is None and mask("[3,4)") is not None
    assert "&" not in mask(r"2\begin{pmatrix}1&2\end{pmatrix}")


def test_mask_keeps_every_place():
    for text in ("a\\", "\\", r"\alpha(x)\\", r"\begin{array}{c}1\end{array}+2"):
        assert len(mask(text)) == len(text)
    assert mask(r"\begin{array}{c}1\end{array}+2").strip("\x00") == "+2"


def test_groups():
    assert groups("(a{b}c)") == ({0: 6, 2: 4}, 2) and groups(r"\{1\}") == ({0: 4}, 1)
    assert groups("((1)") == ({1: 3}, 2) and groups(")(") == ({}, 1)


def test_cut():
    assert cut(re.compile("=|<"), "f(x=1)<2=y") == (["f(x=1)", "2", "y"], ["<", "="])
    assert cut(re.compile("="), "(x") == ([], [])


def test_split():
    assert split("1,(2,3),[4,5)") == ["1", "(2,3)", "[4,5)"] and split(r"\frac{1,2}{3},4") == [r"\frac{1,2}{3}", "4"]
    assert split("1,(2") == split("1)") == split("," * 2000) == []
