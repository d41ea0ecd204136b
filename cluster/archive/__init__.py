"""What comes in: pairs and their pixels. No Ray here."""
