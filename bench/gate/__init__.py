"""Two sides compared: records of two results, or two versions of the code measured side by side in fresh processes."""
