"""Tallystick: metering and billing for AI products, from a provider's response to an invoice anyone can replay."""

__version__ = "0.1.0"
