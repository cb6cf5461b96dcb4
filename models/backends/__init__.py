"""What may run a pipeline's denoiser: one backend a file, all of them behind ``models.backends.base.Backend``."""
