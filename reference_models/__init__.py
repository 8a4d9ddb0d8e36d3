"""The model families that ship with the benchmark: one file each, found through entry points like anyone's plug-in."""
