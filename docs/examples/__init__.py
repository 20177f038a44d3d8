"""Programs that a reader can run; each folder says what it shows."""
