import pytest

from frpo_verl.quickstart.tokenizer import load_tokenizer, write_tokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    """The quickstart's tokenizer, loaded from its files."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return load_tokenizer(folder)
