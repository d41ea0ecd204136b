"""Text for people: printable lines, the run's log, units."""
