"""The training job: DMNet's two stages on Ray Train."""
