"""Where workers come from: a port, and its drivers for local processes, Kubernetes and the simulator."""
