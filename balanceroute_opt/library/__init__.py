"""The library of instances: problems, best known values, bounds, and what proves them (``docs/instances.md``)."""
