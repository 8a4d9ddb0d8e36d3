"""One file a group of commands: parsing and printing only."""
