from frpo_verl.rewards.reading import read
from frpo_verl.rewards.values import Number, write


def test_write():
    for text in (r"\frac{1}{2}", "-5", r"[0,\infty)", r"\{1,x\}", "(1,2)", r"\begin{pmatrix}1&x\\2&3\end{pmatrix}"):
        assert read(write(read(text))) == read(text)
    assert write(read("Evelyn")) is None and write(read("Evelyn, 2")) is None


def test_write_numbers():
    assert write(read(r"1\frac{4}{5}")) == r"\frac{9}{5}" and write(read("50\\%")) == r"\frac{50}{100}"
    assert write(read(r"2\sqrt{3}\pi-i")) == r"2\cdot\sqrt{3}\cdot\pi^{1}-1\cdot i" and write(Number({})) == "0"
