"""The damage that readers are tested with: reproducible, and never the file itself."""

import json

import numpy as np
from mutators_of_bytes import hopeless, mutations

WHOLE = json.dumps({"format": "x/1", "rows": [[1, 2], [3, 4]], "score": 1.5, "none": None}, indent=1).encode()


def drawn(whole, seed, n):
    return list(mutations(whole, np.random.default_rng(seed), n))


def test_as_many_as_asked_for_all_damaged_and_the_same_for_a_seed():
    first = drawn(WHOLE, 3, 400)
    assert len(first) == 400
    assert WHOLE not in first
    assert first == drawn(WHOLE, 3, 400)
    assert first != drawn(WHOLE, 4, 400)
    assert len(set(first)) > 300


def test_many_are_still_json_of_other_values_and_many_are_not():
    def reads(data):
        try:
            json.loads(data)
        except (ValueError, RecursionError):
            return False
        return True

    share = np.mean([reads(data) for data in drawn(WHOLE, 0, 400)])
    assert 0.1 < share < 0.7


def test_an_empty_file_and_a_binary_one_are_damaged_too():
    assert len(drawn(b"", 0, 20)) == 20
    assert len(drawn(bytes(range(256)), 0, 50)) == 50
    assert len(hopeless()) > 15
