"""Ways to make a model smaller or faster: one kind of variant a file, all of them behind ``models.compression.base.Variant``."""
