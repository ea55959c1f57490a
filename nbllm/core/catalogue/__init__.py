"""Model files that are there without being configured: in packages, folders, other programs."""
