"""The parent's filters of warnings, as a worker has them."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from offloop.child.filters import Expression, Filters, describe, find_category
from offloop.wire.cpickle import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Iterator


class OwnWarning(UserWarning):
    """A category with a module."""


@pytest.fixture(autouse=True)
def own_filters() -> Iterator[None]:
    """Filters of the test's own."""
    with warnings.catch_warnings():
        warnings.resetwarnings()
        yield


def described() -> list[Any]:
    """This process's filters, after their journey."""
    travelled: list[Any] = loads(dumps([describe(one) for one in list(warnings.filters)], 5))
    return travelled


def shown(*given: tuple[str, type[Warning], str]) -> list[str]:
    """The texts of those warnings (text, category, module) that the present filters let through."""
    texts: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(warnings.__dict__, "_showwarnmsg_impl", lambda m: texts.append(str(m.message)))
        for text, category, module in given:
            warnings.warn_explicit(text, category, "file.py", 1, module, registry={})
    return texts


GIVEN = [("one", UserWarning, "a"), ("two", UserWarning, "b"), ("three", OwnWarning, "b")]


@pytest.mark.parametrize(
    "options",
    [
        {"action": "ignore"},
        {"action": "ignore", "message": "T.*"},
        {"action": "ignore", "module": "b$"},
        {"action": "ignore", "category": OwnWarning},
        {"action": "ignore", "lineno": 2},
        {"action": "default", "category": DeprecationWarning},
    ],
    ids=repr,
)
def test_a_worker_filters_as_the_parent_does(options: dict[str, Any]) -> None:
    warnings.simplefilter("always")
    warnings.filterwarnings(**options)
    in_parent, entries = shown(*GIVEN), described()
    warnings.resetwarnings()
    Filters().apply(entries)
    assert shown(*GIVEN) == in_parent


def test_filters_of_the_workers_own_stay_in_front() -> None:
    warnings.simplefilter("always")
    entries = described()
    warnings.resetwarnings()
    filters = Filters()
    filters.apply(entries)
    warnings.filterwarnings("ignore", message="one")
    filters.apply(entries)
    assert shown(*GIVEN) == ["two", "three"]
    filters.apply([])
    assert shown(*GIVEN) == ["two", "three"]
    assert len(warnings.filters) == 1


def test_filters_apply_after_a_block_that_has_its_own() -> None:
    filters = Filters()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        filters.apply([("ignore", None, "builtins:Warning", None, 0)])
        assert shown(*GIVEN) == ["one", "two", "three"]
    assert shown(*GIVEN) == []


def test_what_was_shown_by_old_filters_is_shown_again_by_new_ones() -> None:
    filters, registry = Filters(), {}  # type: ignore[var-annotated]
    entries = [("default", None, "builtins:Warning", None, 0)]
    texts: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(warnings.__dict__, "_showwarnmsg_impl", lambda m: texts.append(str(m.message)))
        for repeat in range(2):
            filters.apply(entries)
            for _ in range(2):
                warnings.warn_explicit(f"{repeat}", UserWarning, "file.py", 1, "a", registry)
                warnings.warn_explicit("same", UserWarning, "file.py", 1, "a", registry)
    assert texts == ["0", "same", "1", "same"]


def test_an_error_of_the_parent_is_raised_there() -> None:
    warnings.simplefilter("error")
    entries = described()
    warnings.resetwarnings()
    Filters().apply(entries)
    assert shown(*GIVEN) == ["one", "two", "three"]


def test_an_error_of_the_interpreters_options_is_raised_in_the_worker() -> None:
    warnings.simplefilter("error", UserWarning)
    warnings.simplefilter("error", DeprecationWarning)
    entries = described()
    warnings.resetwarnings()
    warnings.simplefilter("error", UserWarning)
    Filters().apply(entries)
    assert shown(("x", DeprecationWarning, "a")) == ["x"]
    with pytest.raises(UserWarning, match="one"):
        shown(*GIVEN)


@pytest.mark.parametrize(("action", "through"), [("ignore", 3), ("default", 3), ("error", 3)])
def test_what_cannot_be_told_goes_through(action: str, through: int) -> None:
    Filters().apply(
        [
            (action, None, "not_imported.yet:SomeWarning", None, 0),  # type: ignore[list-item]
            ("ignore" if action != "ignore" else "always", None, "builtins:Warning", None, 0),
        ]
    )
    assert len(shown(*GIVEN)) == through


@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("builtins:UserWarning", UserWarning),
        (f"{__name__}:OwnWarning", OwnWarning),
        ("builtins:ValueError", None),
        ("builtins:print", None),
        ("not_there:Warning", None),
        (f"{__name__}:OwnWarning.missing", None),
        ("nonsense", None),
    ],
)
def test_a_category_is_found_by_its_name_if_it_is_loaded(name: str, category: Any) -> None:
    assert find_category(name) is category


def test_an_expression_matches_as_its_original_does() -> None:
    original = re.compile("ab+", re.IGNORECASE)
    copy = Expression(original.pattern, original.flags)
    for text in "ABBA", "xab", "":
        assert bool(copy.match(text)) == bool(original.match(text))


def test_a_worker_needs_no_expressions_until_there_is_a_warning() -> None:
    code = (
        "import sys; from offloop.child.filters import Filters; "
        "Filters().apply([('ignore', ('x', 32), 'builtins:Warning', ('y', 32), 0)]); "
        "assert 're' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"], check=True
    )
