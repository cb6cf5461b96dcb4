"""Sizes the pools of workers; see docs/components/autoscale.md."""
