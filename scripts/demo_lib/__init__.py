"""The demonstration: the whole path on real parts, measured, with a verdict."""
