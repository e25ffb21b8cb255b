"""The two hindsight problems: bounds, exact solvers, local search (``docs/model.md``, sections 6 and 7)."""
