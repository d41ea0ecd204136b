"""Checks of what a job is told."""

from __future__ import annotations


def check_choice(flag: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError where the value of an option is none of the choices."""
    if value not in choices:
        raise ValueError(f"{flag} is {value!r}, expected one of {', '.join(choices)}")


def check_range(flag: str, value: float, low: float, high: float) -> None:
    """Raise ValueError where the value of an option is outside [low, high]."""
    if not low <= value <= high:
        raise ValueError(f"{flag} is {value}, expected a number from {low} to {high}")
