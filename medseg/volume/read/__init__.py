"""Readers: one file per format, and `scan`, which knows them all."""
