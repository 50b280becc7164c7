"""Measuring what systems generate (Section IV-C to IV-E)."""
