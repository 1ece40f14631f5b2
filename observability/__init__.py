"""Metrics, alerts and dashboard of the stack."""
