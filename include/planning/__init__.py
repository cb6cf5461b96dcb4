"""What a policy or a fleet would do with given traffic: `atelier simulate` and `atelier record`; see docs/components/simulator.md."""
