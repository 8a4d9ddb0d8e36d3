"""Networks that several model families share."""
