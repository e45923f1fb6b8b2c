"""Providers' wire formats as a gateway needs them: what is asked, what came back, how a refusal looks; pure."""
