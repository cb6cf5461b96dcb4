"""A fake clock, workers that are messages only, and the router's own scheduler between them; see docs/components/simulator.md."""
