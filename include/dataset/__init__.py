"""Dataset preparation: list → check → decode → caption → split → Parquet shards → manifest → report.

The entry points, in the order a pipeline calls them: :func:`~include.dataset.shards.plan_shards`,
:func:`~include.dataset.shards.prepare_shard` for each plan, :func:`~include.dataset.versions.publish_version`; to read a version,
:func:`~include.dataset.loader.load_split`.
"""
