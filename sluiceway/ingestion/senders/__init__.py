"""Senders' own signatures. The face: `contracts`, `errors`, `service.make_verifier`, `secrets`."""
