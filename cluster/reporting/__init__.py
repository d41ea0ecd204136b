"""The report job: one page in the browser about everything that an output of fuse_archive holds."""
