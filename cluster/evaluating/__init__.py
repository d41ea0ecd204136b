"""The evaluation job: any method's fused images scored over an archive."""
