"""The invoice as documents for people and their tools: a page as HTML or PDF, and rows of cost and usage (FOCUS)."""
