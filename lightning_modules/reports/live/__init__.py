"""A report that is served while records arrive."""
