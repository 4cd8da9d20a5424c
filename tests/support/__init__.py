"""Helpers of the test suite: tasks, gates, bounds, leak snapshots, scripts."""
