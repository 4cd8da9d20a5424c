"""What is known of a pool's work: counters that are always on, and the snapshots made of them."""
