"""The accounts that transfers move amounts between."""

from __future__ import annotations

PROVIDER_USAGE_COST = "provider_usage_cost"
"""What an org's use of providers has cost us: debited by every priced entry."""
PROVIDER_PAYABLE = "provider_payable"
"""What we owe providers for it: credited by the same."""

USD = "USD"
"""The asset of both; amounts are integers of pico-USD (10**-12)."""

ORG_ACCOUNTS = (PROVIDER_USAGE_COST, PROVIDER_PAYABLE)
"""The accounts that every org has from its first entry on."""
