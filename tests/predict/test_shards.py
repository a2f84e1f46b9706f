"""Shards: parts of the cases that together are all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import OptionError
from medseg.shard import Shard


@given(count=st.integers(1, 9), cases=st.integers(0, 30))
def test_every_case_is_in_one_shard_and_the_shards_are_alike_in_size(count: int, cases: int) -> None:
    shards = [Shard.parse(f"{number}/{count}") for number in range(1, count + 1)]
    owners = [[shard.number for shard in shards if shard.has(index)] for index in range(cases)]
    assert all(len(owner) == 1 for owner in owners)
    sizes = [sum(shard.has(index) for index in range(cases)) for shard in shards]
    assert max(sizes) - min(sizes) <= 1


def test_the_first_shard_has_the_first_case_and_every_nth_after_it() -> None:
    assert [index for index in range(8) if Shard(1, 3).has(index)] == [0, 3, 6]
    assert [index for index in range(8) if Shard(3, 3).has(index)] == [2, 5]


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3", "", "1.5/2", "１/２"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="--shard") as caught:
        Shard.parse(text)
    assert "1/4" in caught.value.remedy
