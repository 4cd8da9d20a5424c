"""Memory shared by a parent and its workers."""
