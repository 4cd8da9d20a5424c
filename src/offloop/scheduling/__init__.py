"""PURE: state + event + now in, decisions out.  No await, no clock, no I/O."""
