"""Moves, schedules and stores pairs; every number on pixels comes from dmnet_core."""
