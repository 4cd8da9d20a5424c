"""What offloop and its peers do, found out by trying: ``scripts/bench comparison``.

The table of ``docs/comparison.md`` is what this prints.  Each cell is a program
of its own, `benchmarks.comparison.cell`: a question (`questions`) put to a library
(`libraries`).
"""
