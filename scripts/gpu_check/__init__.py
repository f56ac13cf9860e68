"""What scripts/gpu-check is made of: parts.py runs things, report.py writes what was found."""
