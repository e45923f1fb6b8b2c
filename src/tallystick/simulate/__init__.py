"""Made-up traffic that looks like the real thing: pure functions of a seed."""
