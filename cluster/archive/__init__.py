"""What comes in: pairs and their pixels; and image files that go out. No Ray here."""
