"""The table of errors has every error, with what it also is."""

import re

from tests.docs.test_tables import table

from oban import errors


def test_the_table_has_every_error_and_its_bases() -> None:
    found = {
        name: {base.__name__ for base in error.__bases__}
        for name, error in vars(errors).items()
        if isinstance(error, type) and issubclass(error, errors.ObanError)
    }
    del found["ObanError"]
    said = {}
    for name, bases, _ in table("docs/errors.md", "errors"):
        words = set(re.findall(r"`(\w+)`", bases))
        # Of an error that is also one of Python's, the table leaves ObanError out.
        is_root = not words & found.keys()
        said[name.strip("`")] = words | {"ObanError"} if is_root else words
    assert said == found
