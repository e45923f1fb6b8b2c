"""Disputes: their life, the evidence that a replay gives, and the words that say it. Pure: facts and times are passed
in.
"""
