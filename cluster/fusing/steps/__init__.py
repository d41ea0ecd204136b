"""The three steps that a pair goes through: read, fuse, write."""
