"""PURE: what travels between a parent and its workers, as bytes.  No await, no clock, no I/O."""
