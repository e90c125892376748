"""Whole networks of the teacher and candidates: put together, switched, evaluated, placed on devices."""
