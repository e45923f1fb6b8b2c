"""From a provider's answer to meters that never overlap, by the rules of the server's docs/extraction.md."""
