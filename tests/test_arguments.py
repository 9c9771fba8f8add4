from pathlib import Path

import pytest

from mobilenets import arguments
from mobilenets.arguments import check_counts, check_threads, most_threads, names_of, numbers_of, paths_of
from mobilenets.errors import BackendError, DataError


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ("a/b.png", ["a/b.png"]),
        (Path("a/b.png"), ["a/b.png"]),
        (["a", Path("b")], ["a", "b"]),
        ((name for name in ("a", "b")), ["a", "b"]),
        ([], []),
    ],
)
def test_one_path_or_several(given, paths):
    assert list(paths_of(given)) == [Path(path) for path in paths]


@pytest.mark.parametrize("given", [5, None, b"a.png", {"a": 1}, [b"a.png"], [5]])
def test_what_is_no_path_says_what_is_taken(given):
    with pytest.raises(DataError, match=r"a? ?paths? (are|is) .*(text|Path).*, not a (int|NoneType|bytes|dict)"):
        list(paths_of(given))


def test_one_name_is_not_its_letters():
    assert names_of("openvino") == ("openvino",)
    assert names_of(["a", "b", "a"]) == ("a", "b")
    assert numbers_of(4) == (4,)
    assert numbers_of([1, 4, 1]) == (1, 4)


def test_threads_a_machine_can_make_use_of(monkeypatch):
    monkeypatch.setattr(arguments, "usable_cores", lambda: 2)
    assert most_threads() == 64
    for threads in (None, 1, 64):
        check_threads(threads)
    with pytest.raises(BackendError, match=r"^100000 threads are too many: at most 64 on this machine of 2 cores$"):
        check_threads(10**5)
    monkeypatch.setattr(arguments, "usable_cores", lambda: 96)
    check_threads(384)
    with pytest.raises(BackendError, match="at most 384"):
        check_threads(385)


@pytest.mark.parametrize(("threads", "said"), [(0, "at least 1 thread, not 0"), (2.5, "not 2.5"), (True, "not True")])
def test_numbers_of_threads_that_are_none(threads, said):
    with pytest.raises(BackendError, match=said):
        check_threads(threads)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"batch_size": 65_537}, "batch_size is too large; it must be at most 65,536"),
        ({"top": 10**20}, "top is too large; it must be at most 2,147,483,647"),
        ({"top": 5, "part_size": -1}, "part_size is -1; it must be at least 1"),
        ({"batch_size": 2.0}, "batch_size is a whole number, not 2.0"),
        ({"top": True}, "top is a whole number, not True"),
    ],
)
def test_counts_that_can_not_be(counts, said):
    check_counts(batch_size=65_536, top=2**31 - 1)
    with pytest.raises(DataError, match=f"^{said}$"):
        check_counts(**{"batch_size": 1, **counts})
