"""Facts about amounts of memory."""

import pytest

from medseg.amount import memory_bytes, memory_text
from medseg.errors import OptionError


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4_000_000_000), ("1.5 gb", 1_500_000_000), ("800MB", 800_000_000), ("2GiB", 2 * 2**30)],
)
def test_an_amount_is_a_number_and_a_unit(text: str, size: int) -> None:
    assert memory_bytes(text, option="--max-ram") == size


@pytest.mark.parametrize("text", ["4", "GB", "-4GB", "4 potatoes", "0GB", "", "4GB5", "1e3MB"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(OptionError, match=r"--max-ram .*4GB or 800MB"):
        memory_bytes(text, option="--max-ram")


@pytest.mark.parametrize(("size", "text"), [(0, "0 MB"), (812_345_678, "812 MB"), (4_123_456_789, "4.1 GB")])
def test_amounts_are_said_in_one_unit(size: int, text: str) -> None:
    assert memory_text(size) == text
