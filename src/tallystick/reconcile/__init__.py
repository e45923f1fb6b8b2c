"""Comparing the ledger with what a provider says that it served: exports read, days compared, differences explained."""
