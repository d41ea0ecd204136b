"""The fusing job: plan, steps, ledger, results."""
