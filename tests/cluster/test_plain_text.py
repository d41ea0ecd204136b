"""Text from outside: one line without secrets, and otherwise as it was."""

import pytest

from cluster.text.plain_text import one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://KEY:S@bucket/a: no", "s3://bucket/a: no"),
        ("s3://KEY:a/S@bucket/a", "s3://bucket/a"),
        ("https://user@host/a b", "https://host/a b"),
        ('invalid bucket name "KEY:S@bucket"', 'invalid bucket name "bucket"'),
        ("403, url='https://host/a?token=S&x=1'", "403, url='https://host/a'"),
        ("(https://host/a?S)", "(https://host/a)"),
        ("s3://bucket/a@b.png is gone", "s3://bucket/a@b.png is gone"),
        ("output '/a b/c' was taken at 12:30", "output '/a b/c' was taken at 12:30"),
        ("two\n lines\tand \x1b[2J \u202e", "two lines and ?[2J ?"),
        ("caf\u00e9 \u706b \udcff", "caf\u00e9 \u706b ?"),
    ],
)
def test_an_error_is_one_line_without_secrets(text, shown):
    assert one_line(ValueError(text)) == shown
    assert one_line(shown) == shown


def test_a_printable_name_stays_and_one_that_moves_the_cursor_does_not():
    assert printable("day/a b|<c>'\u00e9") == "day/a b|<c>'\u00e9"
    assert printable("a\r\x9b2J\x00\u2028") == "a??2J??"
