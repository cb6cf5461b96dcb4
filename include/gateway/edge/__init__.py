"""The door for edge workers: machines that reach nothing of the installation but the gateway's HTTPS address."""
