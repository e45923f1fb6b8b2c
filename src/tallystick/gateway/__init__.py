"""The gateway: model calls pass through it unchanged, and each is metered before its answer is complete."""
