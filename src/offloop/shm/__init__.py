"""Memory shared by a parent and its workers."""

#: Memory for bytes from this size on comes from the system each time, and goes back: mallopt(3) has it as
#: M_MMAP_THRESHOLD_MAX.
FRESH = 32 << 20
