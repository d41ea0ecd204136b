"""The export job: fused images of chosen pairs as image files."""
