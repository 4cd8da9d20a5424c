"""Measures offloop against its peers and against physical limits: ``scripts/bench``.

What is measured, and how, is in ``docs/benchmarks.md``.
"""
