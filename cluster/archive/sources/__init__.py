"""Image files of an archive, decoded to arrays."""
