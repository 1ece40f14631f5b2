"""Faults, traffic and the proof of what survived them; used by the tests and by the drills."""
