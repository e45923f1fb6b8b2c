"""Alerts: what fires, and when it is over, decided from evidence that is passed in. Pure."""
