"""Proof, layer by layer, that what was acknowledged is there, once: `service.verify` over a ledger."""
