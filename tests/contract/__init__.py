"""What every context must do, written once: abstract suites, and one short concrete file a context."""
