"""Measuring a model: :func:`~include.evaluation.evaluate.evaluate_pipeline`."""
